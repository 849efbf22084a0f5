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
	text := fmt.Sprintf("inode %d", id.Inode)
	if !id.Born.IsZero() {
		text += ", made " + id.Born.Format(time.RFC3339)
	}
	if id.FileSystem != "" {
		text += ", on file system " + id.FileSystem
	}
	return text
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
	if id, err := btrfsID(int(f.Fd())); err == nil {
		return id, nil
	}
	if uuid, err := ioctlUUID(int(f.Fd())); err == nil {
		return uuid, nil
	}
	if uuid, err := linkedUUID("/dev/disk/by-uuid", unix.Mkdev(st.Dev_major, st.Dev_minor)); err == nil {
		return uuid, nil
	}
	m, err := mountOf(f)
	if err != nil {
		return "", fmt.Errorf("%s: its file system has no UUID: %w", f.Name(), err)
	}
	return m.FSType + " " + m.Source, nil
}

// mountOf finds the mount through which a file was opened.
func mountOf(f *os.File) (*mountinfo.Info, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return nil, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		if st.Mask&unix.STATX_MNT_ID != 0 { // Linux 5.8
			return uint64(m.ID) != st.Mnt_id, false
		}
		return m.Major != int(st.Dev_major) || m.Minor != int(st.Dev_minor), false
	})
	if err != nil {
		return nil, err
	}
	if len(mounts) == 0 {
		return nil, errors.New("it is not in the mount table")
	}
	return mounts[0], nil
}

// btrfsID returns the UUID of a btrfs file system and which of its subvolumes this is: a snapshot has the
// inodes, and the times at which they were made, of what it was taken from. (linux/btrfs.h:
// BTRFS_IOC_FS_INFO; BTRFS_IOC_GET_SUBVOL_INFO, Linux 4.18.)
func btrfsID(fd int) (string, error) {
	var info struct {
		_    [2]uint64
		uuid [16]byte
		_    [992]byte
	}
	var subvolume struct {
		id uint64
		_  [496]byte
	}
	if err := ioctlRead(fd, 0x94, 31, unsafe.Pointer(&info), unsafe.Sizeof(info)); err != nil {
		return "", err
	}
	if err := ioctlRead(fd, 0x94, 60, unsafe.Pointer(&subvolume), unsafe.Sizeof(subvolume)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s subvolume %d", formatUUID(info.uuid), subvolume.id), nil
}

// ioctlUUID asks the kernel (linux/fs.h: FS_IOC_GETFSUUID, Linux 6.9).
func ioctlUUID(fd int) (string, error) {
	var arg struct {
		len  uint8
		uuid [16]byte
	}
	if err := ioctlRead(fd, 0x15, 0, unsafe.Pointer(&arg), unsafe.Sizeof(arg)); err != nil {
		return "", err
	}
	if arg.len != 16 || arg.uuid == [16]byte{} {
		return "", errors.New("the file system has no UUID")
	}
	return formatUUID(arg.uuid), nil
}

// ioctlRead is ioctl(2) with _IOR(class, number, size).
func ioctlRead(fd int, class, number uintptr, arg unsafe.Pointer, size uintptr) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), 2<<30|size<<16|class<<8|number, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

func formatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
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
