package writers

import (
	"errors"

	"golang.org/x/sys/unix"
)

// An identity tells one file from every other that exists at the same time.
type identity struct{ dev, ino uint64 }

// A file is what matters here of statx(2).
type file struct {
	identity
	mount   int // id of the mount it was reached through
	links   uint32
	regular bool
}

// look looks at what name leads to. It wakes no automount and asks no server, which may be away.
func look(dir int, name string, flags int) (file, error) {
	flags |= unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
	var st unix.Statx_t
	err := retry(func() error {
		return unix.Statx(dir, name, flags, unix.STATX_TYPE|unix.STATX_INO|unix.STATX_NLINK|unix.STATX_MNT_ID, &st)
	})
	return file{
		identity: identity{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino},
		mount:    int(st.Mnt_id),
		links:    st.Nlink,
		regular:  st.Mode&unix.S_IFMT == unix.S_IFREG,
	}, err
}

// lookHere looks at a path as this process sees it, and not through a symlink at its end.
func lookHere(path string) (file, error) {
	return look(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW)
}

// gone reports whether an error says that a process has ended, or a file was let go of.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)
}

// unlessGone returns the error if it says more than that there is nothing to look at any more.
func unlessGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
