package rsync

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// scratchPrefix begins the names of temporary directories.
const scratchPrefix = "rsince-rsync-"

// scratchDir makes a temporary directory, where possible on a file system that keeps xattrs and ACLs:
// tmpfs has no user xattrs before kernel 6.6.
func scratchDir() (dir string, release func() error, err error) {
	for _, parent := range [...]string{os.TempDir(), "/var/tmp"} {
		if dir, release, err = newScratch(parent); err != nil {
			continue
		}
		if unix.Lsetxattr(dir, probeXattr, []byte("1"), 0) == nil && unix.Lsetxattr(dir, aclXattr, probeACL(), 0) == nil {
			return dir, release, nil
		}
		if err = release(); err != nil {
			return "", nil, err
		}
	}
	return newScratch(os.TempDir())
}

// newScratch makes a temporary directory below parent, and removes those of processes that are gone.
// Whoever has one has it locked. The release removes it.
func newScratch(parent string) (dir string, release func() error, err error) {
	old, err := os.ReadDir(parent)
	if err != nil {
		return "", nil, err
	}
	for _, entry := range old {
		if !strings.HasPrefix(entry.Name(), scratchPrefix) {
			continue
		}
		dir := filepath.Join(parent, entry.Name())
		if lock, err := lockDir(dir); err == nil {
			_ = errors.Join(os.RemoveAll(dir), lock.Close()) // it may be another user's
		}
	}
	for {
		if dir, err = os.MkdirTemp(parent, scratchPrefix); err != nil {
			return "", nil, err
		}
		// Until it is locked, another process may take it for a leftover.
		lock, err := lockDir(dir)
		if err == nil && isDir(dir) {
			return dir, func() error { return errors.Join(os.RemoveAll(dir), lock.Close()) }, nil
		}
		if isDir(dir) && !errors.Is(err, unix.EWOULDBLOCK) {
			return "", nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
}

func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// lockDir locks a directory as long as the file, or this process, lives.
func lockDir(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(&os.PathError{Op: "flock", Path: dir, Err: err}, f.Close())
	}
	return f, nil
}
