package lvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Files are what a snapshot holds, read-only. They are mounted without a mount point (fsmount(2)): nobody sees them
// who does not have Dir or a path through /proc/PID/fd, and the end of this process unmounts them.
type Files struct {
	Dir   *os.File
	mount *os.File
}

// Open shows what a snapshot held below dir, a path from the root of its file system, whose type is that of the
// origin.
//
// btrfs is not frozen when its volume is suspended, and knows a file system by its UUID. Its snapshot is what it last
// wrote as a whole (so the caller calls syncfs before Take), and gets another UUID where the kernel does not take two
// of the same (before Linux 6.7).
func (s *Snapshot) Open(ctx context.Context, fsType, dir string) (*Files, error) {
	mount, err := s.mount(fsType)
	if errors.Is(err, unix.EEXIST) && fsType == "btrfs" {
		if _, err := command(ctx, "btrfstune", "-f", "-m", s.Device()); err != nil {
			return nil, fmt.Errorf("giving the snapshot a UUID of its own: %w", err)
		}
		mount, err = s.mount(fsType)
	}
	if err != nil {
		return nil, fmt.Errorf("mounting %s: %w", s, err)
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(int(mount.Fd()), filepath.Clean("/"+dir), &how)
	if err != nil {
		return nil, errors.Join(&os.PathError{Op: "open", Path: dir, Err: err}, mount.Close())
	}
	return &Files{Dir: os.NewFile(uintptr(fd), dir), mount: mount}, nil
}

func (s *Snapshot) mount(fsType string) (*os.File, error) {
	fs, err := unix.Fsopen(fsType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen %s: %w", fsType, err)
	}
	defer unix.Close(fs)
	flags := []string{"ro"}
	if fsType == "xfs" {
		flags = append(flags, "nouuid") // it does not mount two of the same either
	}
	err = unix.FsconfigSetString(fs, "source", s.Device())
	for _, flag := range flags {
		err = errors.Join(err, unix.FsconfigSetFlag(fs, flag))
	}
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		return nil, errors.Join(err, complaint(fs))
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID)
	if err != nil {
		return nil, fmt.Errorf("fsmount: %w", err)
	}
	return os.NewFile(uintptr(mount), s.String()), nil
}

// complaint is what the file system says of why it is not mounted, one message for each read; nil: nothing.
func complaint(fs int) error {
	var errs []error
	buf := make([]byte, 8192)
	for {
		n, err := unix.Read(fs, buf)
		if err != nil || n <= 0 {
			return errors.Join(errs...)
		}
		text := bytes.TrimSpace(buf[:n])
		if after, ok := bytes.CutPrefix(text, []byte("e ")); ok {
			errs = append(errs, errors.New(string(after)))
		}
	}
}

// Close unmounts the files; whoever still has one of them open keeps it.
func (f *Files) Close() error { return errors.Join(f.Dir.Close(), f.mount.Close()) }
