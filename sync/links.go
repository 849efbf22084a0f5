package sync

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	gosync "sync"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/changes/scan"
)

// linkFinder finds every name in the source of the files it is told of. rsync links names only
// among those it is given, and a name it is not given keeps the old content. Symlinks, devices and
// other things that are no directories can have several names too.
type linkFinder struct {
	tree *tree
	// surveyed says that every name in the source was told: there are no others to be looked for.
	surveyed bool
	unread   []error // what could not be read on the way; names in it cannot be copied either

	mu    gosync.Mutex
	files map[fileID]*linked
}

type fileID struct{ dev, inode uint64 }

type linked struct {
	names set
	links uint64 // as fstat tells
	// version is of a moment before the copy; 0: what comes next may leave the file with the same one.
	version scan.Version
	told    []changes.Change
}

// manyNames reports whether a file that is no directory has other names.
func manyNames(st *unix.Stat_t) bool { return st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR }

func newLinkFinder(t *tree) *linkFinder { return &linkFinder{tree: t, files: map[fileID]*linked{}} }

// addName adds a name, found or told by changes.
func (l *linkFinder) addName(path string, st *unix.Stat_t, told ...changes.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.file(st)
	f.names.add(path)
	f.told = append(f.told, told...)
}

func (l *linkFinder) file(st *unix.Stat_t) *linked {
	id := fileID{st.Dev, st.Ino}
	if l.files[id] == nil {
		l.files[id] = &linked{names: set{}}
	}
	f := l.files[id]
	f.links, f.version = uint64(st.Nlink), 0
	if l.tree.seen.settled(st) {
		f.version = fileVersion(*st)
	}
	return f
}

// addHandle adds a file whose names are not known; one that has no name any more is passed over. On
// which of the source's file systems it is, a handle does not tell.
func (l *linkFinder) addHandle(c changes.Change) error {
	for _, mount := range append([]string{"."}, l.tree.mounts...) {
		if err := l.addHandleOn(l.tree.root+"/"+mount, c); err != nil {
			return fmt.Errorf("opening a changed file by its handle: %w", err)
		}
	}
	return nil
}

func (l *linkFinder) addHandleOn(mount string, c changes.Change) error {
	dir, err := os.Open(mount)
	if errors.Is(err, os.ErrNotExist) {
		return nil // unmounted meanwhile
	} else if err != nil {
		return err
	}
	defer dir.Close()
	fd, err := c.Handle.Open(int(dir.Fd()))
	if slices.Contains([]error{unix.ESTALE, unix.EINVAL, unix.EOPNOTSUPP}, err) { // not of this file system
		return nil
	} else if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Nlink == 0 || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return err
	}
	l.addFile(&st, c)
	return nil
}

// addFile adds a file of which no name in the source is told.
func (l *linkFinder) addFile(st *unix.Stat_t, told changes.Change) {
	f := l.file(st)
	f.told = append(f.told, told)
}

// addInode adds a file of which no more is known.
func (l *linkFinder) addInode(id fileID) {
	if l.files[id] == nil {
		l.files[id] = &linked{names: set{}, links: 1}
	}
}

// addBelow adds the files with several names directly in dir or, if deep, anywhere below. A directory that
// was renamed or removed meanwhile is passed over, as those below it are: that is a change for the next run.
func (l *linkFinder) addBelow(ctx context.Context, dir string, deep bool) error {
	t := l.tree.scan(dir)
	if t.Flat = !deep; t.Flat {
		l.tree.seen.relist(dir)
	}
	err := t.Walk(ctx, func(e scan.Entry) {
		path := joined(dir, e.Path)
		l.tree.seen.name(path, &e.Stat)
		switch {
		case e.Type != unix.DT_DIR:
		case deep:
			l.tree.seen.directory(path, e.Identity)
		default:
			l.tree.seen.listedDirectory(path, e.Identity)
		}
		if manyNames(&e.Stat) {
			l.addName(path, &e.Stat)
		}
	})
	return l.noteBelow(ctx, dir, err)
}

// noteBelow is note for what is in a directory that may have been renamed or removed meanwhile.
func (l *linkFinder) noteBelow(ctx context.Context, dir string, err error) error {
	if dir != "." && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)) {
		return ctx.Err()
	}
	return l.note(ctx, err)
}

// note keeps the error of reading a tree; it returns only that of a run that is to end.
func (l *linkFinder) note(ctx context.Context, err error) error {
	if err != nil {
		l.unread = append(l.unread, err)
	}
	return ctx.Err()
}

// groups returns the names of each file. The tree is read only if a name is not known yet, and then
// without looking at files themselves.
func (l *linkFinder) groups(ctx context.Context) (otherNames, error) {
	if !l.surveyed && l.incomplete() {
		if err := l.findAll(ctx); err != nil {
			return nil, err
		}
	}
	var groups otherNames
	for _, f := range l.files {
		if len(f.names) > 0 {
			groups = append(groups, named{f.names.sorted(), f.version})
		}
	}
	slices.SortFunc(groups, func(a, b named) int { return slices.Compare(a.names, b.names) })
	return groups, nil
}

func (l *linkFinder) incomplete() bool {
	for _, f := range l.files {
		if l.lacks(f) {
			return true
		}
	}
	return false
}

// lacks reports whether a file may have more names than were found. What is mounted in the source can show
// a name of it at several places.
func (l *linkFinder) lacks(f *linked) bool {
	return len(l.tree.mounts) > 0 || uint64(len(f.names)) < f.links
}

// linkage gives the names found.
func (l *linkFinder) linkage() linkage {
	found := linkage{}
	for id, f := range l.files {
		found[id] = f.names.sorted()
	}
	return found
}

// unfound gives the changes of files some of whose names may be where the tree could not be read.
func (l *linkFinder) unfound() []changes.Change {
	if len(l.unread) == 0 {
		return nil
	}
	reason, _, _ := strings.Cut(l.unread[0].Error(), "\n")
	var unfound []changes.Change
	for _, f := range l.files {
		if !l.lacks(f) {
			continue
		}
		for _, c := range f.told {
			c.Attempts++
			c.Error = "looking for its other names: " + reason
			unfound = append(unfound, c)
		}
	}
	return unfound
}

func (l *linkFinder) findAll(ctx context.Context) error {
	wanted := map[uint64][]fileID{}
	for id := range l.files {
		wanted[id.inode] = append(wanted[id.inode], id)
	}
	return l.note(ctx, l.tree.scan(".").Names(ctx, func(e scan.Entry) {
		for _, id := range wanted[e.Inode] {
			st, err := l.tree.stat(e.Path)
			if err == nil && st.Dev == id.dev && st.Ino == id.inode && st.Mode&unix.S_IFMT != unix.S_IFDIR {
				l.tree.seen.name(e.Path, &st)
				l.addName(e.Path, &st)
			}
		}
	}))
}

func joined(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}
