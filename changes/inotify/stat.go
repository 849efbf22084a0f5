package inotify

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"rsince/changes/scan"
)

// An identity tells one directory from every other that exists at the same time.
type identity struct{ dev, ino uint64 }

// A stat is what matters here of statx(2).
type stat struct {
	identity
	mount uint64
	isDir bool
}

var errNoMountID = errors.New("the kernel does not tell mount ids (Linux 5.8 does)")

// statAt looks at name in the directory open as fd, without following a symlink or waking an
// automount; an empty name is the directory itself.
func statAt(fd int, name string) (stat, error) {
	const flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_EMPTY_PATH
	var st unix.Statx_t
	err := retry(func() error {
		return unix.Statx(fd, name, flags, unix.STATX_TYPE|unix.STATX_INO|unix.STATX_MNT_ID, &st)
	})
	if err != nil {
		return stat{}, err
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return stat{}, errNoMountID
	}
	return stat{
		identity: identity{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino},
		mount:    st.Mnt_id,
		isDir:    st.Mode&unix.S_IFMT == unix.S_IFDIR,
	}, nil
}

// openDir opens the directory at path, of any length, and refuses a symlink anywhere in it.
func openDir(path string, flags uint64) (*os.File, error) {
	at := unix.AT_FDCWD
	for rest := path; ; {
		part, how := rest, flags
		if len(rest) >= unix.PathMax {
			cut := strings.LastIndexByte(rest[:unix.PathMax], '/')
			part, rest, how = rest[:cut], rest[cut+1:], unix.O_PATH
		}
		fd, err := openDirAt(at, part, how)
		if at != unix.AT_FDCWD {
			unix.Close(at)
		}
		if err != nil {
			return nil, err
		}
		if len(part) == len(rest) {
			return os.NewFile(uintptr(fd), path), nil
		}
		at = fd
	}
}

func openDirAt(at int, path string, flags uint64) (fd int, err error) {
	how := unix.OpenHow{Flags: flags | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS}
	err = retry(func() (err error) {
		fd, err = unix.Openat2(at, path, &how)
		return err
	})
	return fd, err
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// subdirectories lists the directories in the one open as fd, and what might be one because the file
// system does not say. Most names in a tree are files, and for them it allocates nothing; buf is its
// working space.
func subdirectories(fd int, buf []byte) (names []string, err error) {
	for {
		n := 0
		err := retry(func() (err error) {
			n, err = unix.Getdents(fd, buf)
			return err
		})
		if err != nil || n == 0 {
			return names, err
		}
		for d := range scan.Dirents(buf[:n]) {
			if d.Type == unix.DT_DIR || d.Type == unix.DT_UNKNOWN {
				names = append(names, string(d.Name))
			}
		}
	}
}
