package changes

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// A Handle is what name_to_handle_at(2) returns for a file: the kernel's int32 handle_type in native
// byte order, then the opaque handle bytes. It is valid within one file system. Comparable; empty
// means none.
type Handle string

// Open returns an O_PATH descriptor of the file, on the file system that the descriptor mount is on.
// unix.ESTALE says that there is no such file any more.
func (h Handle) Open(mount int) (fd int, err error) {
	if len(h) < 4 {
		return -1, unix.EINVAL
	}
	file := unix.NewFileHandle(int32(binary.NativeEndian.Uint32([]byte(h[:4]))), []byte(h[4:]))
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err = unix.OpenByHandleAt(mount, file, flags)
	// ext4 says ENOMEM, with memory to spare, as long as another file with the inode number of a
	// removed one is being created (iget_locked, Linux 6.18).
	for wait := time.Microsecond; errors.Is(err, unix.ENOMEM) && wait < 100*time.Millisecond; wait *= 2 {
		time.Sleep(wait)
		fd, err = unix.OpenByHandleAt(mount, file, flags)
	}
	return fd, err
}
