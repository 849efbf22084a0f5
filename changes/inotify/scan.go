package inotify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"rsince/changes"
)

var (
	// errMoved: the directory is no longer where it was. Its events, which will be handled later,
	// say where it went.
	errMoved     = errors.New("it was moved or removed meanwhile")
	errUnwatched = errors.New("its watch has ended")
	errFileMount = errors.New("a file is mounted there, and only directories are watched")
)

// at opens d where it should be.
func (w *watch) at(d *dir, flags uint64) (*os.File, stat, error) {
	f, err := openDir(w.absolute(d.path()), flags)
	if denied(err) {
		if _, above := w.lookAtSource(); above != nil {
			// Not for want of permission in the source, whose end would have an event.
			err = fmt.Errorf("the source cannot be reached: %v", above)
		}
	}
	if err != nil {
		return nil, stat{}, err
	}
	st, err := statAt(int(f.Fd()), "")
	if err == nil && st.identity != d.id {
		err = errMoved
	}
	if err != nil {
		f.Close()
		return nil, stat{}, err
	}
	return f, st, nil
}

// refresh looks at name in parent and brings what is watched there in line with what is there: a
// directory that is new is scanned, one that is gone is dropped. With anew set, what was known at
// that name is dropped in any case.
func (w *watch) refresh(ctx context.Context, parent *dir, name string, anew bool) {
	path := parent.join(name)
	delete(w.unwatched, path)
	before := parent.child(name)
	if before != nil && anew {
		w.drop(before)
		before = nil
	}
	f, st, err := w.at(parent, unix.O_PATH)
	if err != nil {
		if before != nil {
			w.drop(before)
		}
		if denied(err) {
			parent.setBlind()
		} else {
			// If parent moved, its own events are still to come, and this note goes with it. If
			// something above the source moved, parent may be back when the note is looked at.
			w.unwatched[path] = err
		}
		return
	}
	d := w.meet(f, st, parent, name)
	f.Close()
	if d != nil && d != before {
		w.scan(ctx, d, w.add)
	}
}

// meet looks at name in parent, which is open as f, and returns its dir if it is a directory of the
// source that can be watched.
func (w *watch) meet(f *os.File, in stat, parent *dir, name string) *dir {
	path := parent.join(name)
	known := parent.child(name)
	st, err := statAt(int(f.Fd()), name)
	part := err == nil && w.part(path, st, in)
	if known != nil && (!part || st.identity != known.id) {
		w.drop(known)
		known = nil
	}
	switch {
	case known != nil:
		return known
	case err != nil:
		w.unseen(parent, path, err)
		return nil
	case !st.isDir && st.mount != in.mount && !w.source.OneFileSystem:
		w.unwatched[path] = errFileMount
		return nil
	case !part:
		return nil
	}
	if other := w.byID[st.identity]; other != nil && !w.displace(other, st, parent, path) {
		return nil
	}
	return w.insert(parent, name, st.identity)
}

// part reports whether st, of what is at path in a directory of the source, is of another one.
func (w *watch) part(path string, st, in stat) bool {
	return st.isDir && w.covers(path) && (st.mount == in.mount || !w.source.OneFileSystem)
}

// unseen notes that path, in parent, could not be looked at.
func (w *watch) unseen(parent *dir, path string, err error) {
	switch {
	case denied(err):
		parent.blind = true
		w.rec.Record(path, changes.Subtree)
	case !gone(err):
		w.unwatched[path] = err
	}
}

// displace drops other, whose directory has just been met at path before the events that say it
// moved. It returns false if path is not to be watched.
func (w *watch) displace(other *dir, st stat, parent *dir, path string) bool {
	if other == w.cookies.watched {
		return false
	}
	for d := parent; d != nil; d = d.parent {
		if d == other {
			// It moved below what was below it; the events that say so are handled in turn.
			w.unwatched[path] = errMoved
			return false
		}
	}
	if f, there, err := w.at(other, unix.O_PATH); err == nil {
		f.Close()
		if there.mount != st.mount {
			w.unwatched[path] = fmt.Errorf("it is also mounted at %q, and inotify tells of it only there", other.path())
			return false
		}
	}
	w.rec.Record(other.path(), changes.Subtree)
	w.drop(other)
	return true
}

// scan calls add with every directory from top downwards, each before it is listed, and makes what
// is known agree with the lists. What it finds is not recorded: that is for the caller, afterwards,
// because what happens before a directory is watched has no event.
func (w *watch) scan(ctx context.Context, top *dir, add func(*dir, *os.File) error) {
	todo := []*dir{top}
	for len(todo) > 0 && ctx.Err() == nil {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !w.known(d) {
			continue
		}
		below, err := w.enter(d, add)
		switch {
		case err == nil:
			todo = append(todo, below...)
		case denied(err):
			d.blind = true
			w.rec.Record(d.path(), changes.Subtree)
		default:
			w.unwatched[d.path()] = err
			w.drop(d)
		}
	}
}

// enter watches one directory and returns the directories in it.
func (w *watch) enter(d *dir, add func(*dir, *os.File) error) ([]*dir, error) {
	f, st, err := w.at(d, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := add(d, f); err != nil {
		return nil, err
	}
	d.blind = false
	names, err := subdirectories(int(f.Fd()), w.listing)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, child := range slices.Clone(d.children) {
		if _, ok := slices.BinarySearch(names, child.name); !ok {
			w.drop(child)
		}
	}
	var below []*dir
	for _, name := range names {
		if child := w.meet(f, st, d, name); child != nil {
			below = append(below, child)
		}
	}
	return below, nil
}

// add adds the watch of d, which is open as f. For a directory that is watched already it does
// nothing.
func (w *watch) add(d *dir, f *os.File) error {
	return w.listen(d.key, int(f.Fd()))
}

// listen adds a watch of what is open as fd, known by key.
func (w *watch) listen(key uint64, fd int) error {
	err := w.keys.with(key, fd, w.fs.Add)
	if errors.Is(err, unix.ENOSPC) {
		return errLimit
	}
	return err
}

// heard returns nil if d is where it should be and its watch still exists. The kernel ends the watches of
// a file system that is unmounted (IN_UNMOUNT, inotify(7)), fsnotify does not pass that on, and when it is
// mounted again the mount id, the device number and the inode can all be as before.
//
// To ask for one watch, it is added under another key: where there is one already fsnotify keeps only
// that, and does not know the other key.
func (w *watch) heard(d *dir) error {
	f, _, err := w.at(d, unix.O_PATH)
	if err != nil {
		return err
	}
	defer f.Close()
	key := w.keys.next()
	if err := w.listen(key, int(f.Fd())); err != nil {
		return err
	}
	if err := w.fs.Remove(w.keys.path(key)); !errors.Is(err, fsnotify.ErrNonExistentWatch) {
		return errUnwatched
	}
	return nil
}

func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ESTALE)
}

func denied(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}
