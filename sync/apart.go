package sync

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// A place is where a directory lies in its file system, by whatever mount it is reached.
type place struct {
	device uint64
	path   string // from the root of the file system
}

func placeOf(f *os.File) (place, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return place{}, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	m, err := mountOf(f)
	if err != nil {
		return place{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return place{}, err
	}
	return place{st.Dev, inFileSystem(m, path)}, nil
}

// inFileSystem turns a path below a mount into one from the root of the file system.
func inFileSystem(m *mountinfo.Info, path string) string {
	rest := strings.TrimPrefix(path, strings.TrimSuffix(m.Mountpoint, "/"))
	return filepath.Join(m.Root, rest)
}

// holds reports whether other is this place or lies below it.
func (p place) holds(other place) bool {
	_, isBelow := below(other.path, p.path)
	return p.device == other.device && (p.path == other.path || isBelow)
}

// A view is a path by which a place is reached.
type view struct {
	path string
	place
}

// views gives what is seen by way of a directory: itself, and what is mounted below it. A mount that cannot be looked at
// cannot be copied through either.
func views(dir *os.File, mounts []string) ([]view, error) {
	own, err := placeOf(dir)
	if err != nil {
		return nil, err
	}
	found := []view{{resolved(dir.Name()), own}}
	for _, mount := range mounts {
		f, err := os.OpenFile(mount, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		at, err := placeOf(f)
		_ = f.Close()
		if err == nil && !own.holds(at) {
			found = append(found, view{mount, at})
		}
	}
	return found, nil
}

// leftOut reports whether a target, or what is mounted below it, lies below the source by its path too: by that it is
// left out of the source.
func (v view) leftOut(target view) bool {
	rel, ok := below(target.path, v.path)
	return ok && target.place == place{v.device, filepath.Join(v.place.path, rel)}
}

// meetApart refuses a local target that holds the source, or lies in it, by way of a mount at or below either: what
// deletes in the one deletes in the other. The target's mounts are those below it.
func (r *run) meetApart(source, target *os.File, mounts []string) error {
	var crossed []string
	if !r.source.OneFileSystem {
		mounts, err := mountsBelow(r.source.Path)
		if err != nil {
			return err
		}
		crossed = slices.DeleteFunc(mounts, func(mount string) bool {
			return slices.ContainsFunc(r.source.Skip, func(skip string) bool { _, ok := below(mount, skip); return ok || mount == skip })
		})
	}
	from, err := views(source, crossed)
	if err != nil {
		return err
	}
	to, err := views(target, mounts)
	if err != nil {
		return err
	}
	for _, source := range from {
		for _, target := range to {
			if (source.holds(target.place) || target.holds(source.place)) && !source.leftOut(target) {
				return fmt.Errorf("%s and %s are one directory, or one lies in the other, through a mount (%s shows what %s does)",
					r.Profile.Source, r.Profile.Target, target.path, source.path)
			}
		}
	}
	return nil
}

// mountsBelow gives the mount points below a directory.
func mountsBelow(dir string) ([]string, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	found := set{}
	for _, m := range mounts {
		if _, ok := below(m.Mountpoint, dir); ok && isMountPoint(m.Mountpoint) {
			found.add(m.Mountpoint)
		}
	}
	return found.sorted(), nil
}
