package sync

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	gosync "sync"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/changes/scan"
)

// linkFinder finds every name in the source of the files it is told of. rsync links names only
// among those it is given, and a name it is not given keeps the old content.
type linkFinder struct {
	tree *tree

	mu    gosync.Mutex
	files map[fileID]*linked
}

type fileID struct{ dev, inode uint64 }

type linked struct {
	names set
	links uint64 // as fstat tells; the file has names elsewhere if there are fewer in names
}

func newLinkFinder(t *tree) *linkFinder { return &linkFinder{tree: t, files: map[fileID]*linked{}} }

func (l *linkFinder) addName(path string, st *unix.Stat_t) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file(st).names.add(path)
}

func (l *linkFinder) file(st *unix.Stat_t) *linked {
	id := fileID{st.Dev, st.Ino}
	if l.files[id] == nil {
		l.files[id] = &linked{names: set{}}
	}
	l.files[id].links = uint64(st.Nlink)
	return l.files[id]
}

// addHandle adds a file whose names are not known; one that has no name any more is passed over.
func (l *linkFinder) addHandle(h changes.Handle) error {
	mount, err := os.Open(l.tree.root)
	if err != nil {
		return err
	}
	defer mount.Close()
	fd, err := h.Open(int(mount.Fd()))
	if errors.Is(err, unix.ESTALE) {
		return nil
	} else if err != nil {
		return fmt.Errorf("opening a changed file by its handle: %w", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Nlink == 0 || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return err
	}
	l.file(&st)
	return nil
}

// addBelow adds the files with several names directly in dir or, if deep, anywhere below.
func (l *linkFinder) addBelow(ctx context.Context, dir string, deep bool) error {
	t := l.tree.scan(dir)
	t.Flat = !deep
	return t.Walk(ctx, func(e scan.Entry) {
		if e.Type == unix.DT_REG && e.Stat.Nlink > 1 {
			l.addName(joined(dir, e.Path), &e.Stat)
		}
	})
}

// groups returns the names of each file. The tree is read only if a name is not known yet, and then
// without looking at files themselves.
func (l *linkFinder) groups(ctx context.Context) ([][]string, error) {
	if l.incomplete() {
		if err := l.findAll(ctx); err != nil {
			return nil, err
		}
	}
	var groups [][]string
	for _, f := range l.files {
		if len(f.names) > 0 {
			groups = append(groups, f.names.sorted())
		}
	}
	slices.SortFunc(groups, func(a, b []string) int { return slices.Compare(a, b) })
	return groups, nil
}

func (l *linkFinder) incomplete() bool {
	for _, f := range l.files {
		if uint64(len(f.names)) < f.links {
			return true
		}
	}
	return false
}

func (l *linkFinder) findAll(ctx context.Context) error {
	wanted := map[uint64][]fileID{}
	for id := range l.files {
		wanted[id.inode] = append(wanted[id.inode], id)
	}
	return l.tree.scan(".").Names(ctx, func(e scan.Entry) {
		for _, id := range wanted[e.Inode] {
			st, err := l.tree.stat(e.Path)
			if err == nil && st.Dev == id.dev && st.Ino == id.inode && st.Mode&unix.S_IFMT == unix.S_IFREG {
				l.addName(e.Path, &st)
			}
		}
	})
}

func joined(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}
