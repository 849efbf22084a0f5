package sync

import (
	"fmt"
	"os"
	"path/filepath"
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

// meetApart refuses a local target that holds the source, or lies in it, by way of a bind mount: what
// deletes in the one deletes in the other. A target that lies below the source by its path is left out of
// it.
func (r *run) meetApart(source, target *os.File) error {
	if _, ok := below(resolved(target.Name()), r.source.Path); ok {
		return nil
	}
	from, err := placeOf(source)
	if err != nil {
		return err
	}
	to, err := placeOf(target)
	if err != nil {
		return err
	}
	if from.holds(to) || to.holds(from) {
		return fmt.Errorf("%s and %s are one directory, or one lies in the other, through a mount", r.Profile.Source, r.Profile.Target)
	}
	return nil
}
