package sync

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// An identity tells whether a directory is the one it was: the same file system and on it the same
// directory, even after a reboot has numbered devices differently.
type identity struct {
	// FileSystem is the UUID of the file system, or, where it has none, its type and what is
	// mounted ("nfs server:/export").
	FileSystem string    `json:"file_system"`
	Inode      uint64    `json:"inode"`
	Born       time.Time `json:"born,omitzero"` // the zero time where the file system keeps none
}

// same reports whether two identities can be of one directory. What one of them does not know is
// not compared.
func (id identity) same(other identity) bool {
	bornDiffers := !id.Born.IsZero() && !other.Born.IsZero() && !id.Born.Equal(other.Born)
	return id.FileSystem == other.FileSystem && id.Inode == other.Inode && !bornDiffers
}

func (id identity) String() string {
	if id.Born.IsZero() {
		return fmt.Sprintf("inode %d on file system %s", id.Inode, id.FileSystem)
	}
	return fmt.Sprintf("inode %d, made %s, on file system %s", id.Inode, id.Born.Format(time.RFC3339), id.FileSystem)
}

// identify returns the identity of an open directory on this machine.
func identify(f *os.File) (identity, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return identity{}, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	id := identity{Inode: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.Born = time.Unix(st.Btime.Sec, int64(st.Btime.Nsec)).UTC()
	}
	var err error
	id.FileSystem, err = fileSystemOf(f, st)
	return id, err
}

func fileSystemOf(f *os.File, st unix.Statx_t) (string, error) {
	uuid, err := ioctlUUID(int(f.Fd()))
	if err == nil {
		return uuid, nil
	}
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return m.Major != int(st.Dev_major) || m.Minor != int(st.Dev_minor), false
	})
	if err != nil {
		return "", err
	}
	if uuid, err := linkedUUID("/dev/disk/by-uuid", unix.Mkdev(st.Dev_major, st.Dev_minor)); err == nil {
		return uuid, nil
	}
	if len(mounts) == 0 {
		return "", fmt.Errorf("%s: its file system has no UUID and is not in the mount table", f.Name())
	}
	return mounts[0].FSType + " " + mounts[0].Source, nil
}

// ioctlUUID asks the kernel (FS_IOC_GETFSUUID, Linux 6.9).
func ioctlUUID(fd int) (string, error) {
	const getFSUUID = 2<<30 | 17<<16 | 0x15<<8 // _IOR(0x15, 0, struct fsuuid2)
	var arg struct {
		len  uint8
		uuid [16]byte
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), getFSUUID, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return "", errno
	}
	if arg.len != 16 || arg.uuid == [16]byte{} {
		return "", errors.New("the file system has no UUID")
	}
	u := arg.uuid
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]), nil
}

// linkedUUID looks for the block device among udev's links, each named after a UUID.
func linkedUUID(dir string, dev uint64) (string, error) {
	links, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, link := range links {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, link.Name()), &st) == nil && st.Rdev == dev {
			return strings.ToLower(link.Name()), nil
		}
	}
	return "", os.ErrNotExist
}
