package inotify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

// watchSource watches everything from the source's root downwards.
func (w *watch) watchSource(ctx context.Context) error {
	st, err := w.lookAtSource()
	if err != nil {
		return err
	}
	if c := w.cookies.watched; c != nil && c.id == st.identity {
		return errors.New("rsince's own directory cannot be a source")
	}
	w.root, w.rootMount = w.insert(nil, ".", st.identity), st.mount
	w.scan(ctx, w.root, w.add)
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.root == nil {
		return w.unwatched["."]
	}
	if w.root.blind {
		w.drop(w.root)
		return unix.EACCES
	}
	for _, path := range slices.Sorted(maps.Keys(w.mounted)) {
		parent, name := split(path)
		if d := w.find(parent); d != nil {
			w.refresh(ctx, d, name, false)
		}
	}
	return nil
}

func (w *watch) lookAtSource() (stat, error) {
	f, err := openDir(w.source.Path, unix.O_PATH)
	if err != nil {
		return stat{}, err
	}
	defer f.Close()
	return statAt(int(f.Fd()), "")
}

// checkSource makes sure that the source's path leads to the directory that is watched, and that it
// still is. If it leads to another one, or to one again, that is watched from now on.
func (w *watch) checkSource(ctx context.Context) {
	st, err := w.lookAtSource()
	there := err == nil
	if w.root != nil {
		switch {
		case there && (st.identity != w.root.id || st.mount != w.rootMount):
			err = errors.New("something else is there now")
		case there:
			if err = w.heard(w.root); err == nil {
				return
			}
		}
		w.loseSource(fmt.Sprintf("the source was moved, removed, mounted over or unmounted: %v", err))
	}
	delete(w.unwatched, ".")
	if !there {
		return
	}
	if err := w.watchSource(ctx); err != nil {
		w.unwatched["."] = err
		return
	}
	w.gap(".", "the source was watched anew")
}

// loseSource ends the watches and says that from now on nothing is heard.
func (w *watch) loseSource(reason string) {
	w.drop(w.root)
	clear(w.unwatched)
	w.gap(".", "%s", reason)
}

// tooMany is how many parts of a source can be told apart as gaps of their own.
const tooMany = 64

// retryUnwatched tries again to watch what could not be watched. What now can be is in doubt.
func (w *watch) retryUnwatched(ctx context.Context) {
	for _, path := range slices.Sorted(maps.Keys(w.unwatched)) {
		parent, name := split(path)
		d := w.find(parent)
		switch {
		case path == ".":
			continue
		case d == nil:
			delete(w.unwatched, path)
			continue
		}
		w.refresh(ctx, d, name, true)
		if w.unwatched[path] == nil {
			w.rec.Record(path, changes.Subtree)
		}
	}
}

// tellUnwatched records a gap for what cannot be watched, at every drain.
func (w *watch) tellUnwatched(ctx context.Context) {
	w.tellShortage(ctx, w.notWatched(true))
	paths := w.notWatched(false)
	if n := len(paths); n > tooMany {
		first := paths[0]
		w.gap(".", "%d directories cannot be watched; the first is %q: %v", n, first, w.unwatched[first])
		return
	}
	for _, path := range paths {
		w.gap(path, "it cannot be watched: %v", w.unwatched[path])
	}
}
