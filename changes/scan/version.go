package scan

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"
)

// A Version tells apart what one name led to at different moments: another file, or the same one
// changed. It is a hash of the inode's number, mode, size and ctime, which no program can set; 0 is none.
type Version uint64

// VersionOf gives the version of a name that was found with this metadata.
func VersionOf(st *unix.Stat_t) Version {
	var b [32]byte
	binary.LittleEndian.PutUint64(b[0:], st.Ino)
	binary.LittleEndian.PutUint64(b[8:], uint64(st.Size))
	binary.LittleEndian.PutUint64(b[16:], uint64(st.Ctim.Sec))
	binary.LittleEndian.PutUint32(b[24:], uint32(st.Ctim.Nsec))
	binary.LittleEndian.PutUint32(b[28:], st.Mode)
	return Version(max(1, xxhash.Sum64(b[:])))
}

// An Identity tells whether a directory is the one that was there under its name: a hash of its file
// handle, which outlives a reboot and is not given to another file (name_to_handle_at(2)); 0 is none.
type Identity uint64

// IdentityOf gives the identity of a directory, whose name is relative to the directory open as dir or,
// if that is unix.AT_FDCWD, absolute.
func IdentityOf(dir int, name string) (Identity, error) {
	var handle unix.FileHandle
	err := ignoringEINTR(func() (err error) {
		handle, _, err = unix.NameToHandleAt(dir, name, 0)
		return err
	})
	if err != nil {
		return 0, err
	}
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 64), uint32(handle.Type()))
	return Identity(max(1, xxhash.Sum64(append(b, handle.Bytes()...)))), nil
}
