package inotify

import (
	"context"
	"errors"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"rsince/changes"
)

// handle tells what an event means. One of a directory dropped since means nothing: what happened
// there is part of what was recorded when it was dropped, or when it was scanned in its new place.
func (w *watch) handle(ctx context.Context, event fsnotify.Event) {
	key, name, ok := w.keys.parse(event.Name)
	d := w.byKey[key]
	switch {
	case !ok || d == nil:
	case d == w.cookies.watched:
		w.cookie(ctx, name, event.Op)
	case name == "":
		w.itself(ctx, d, event.Op)
	case w.covers(d.join(name)):
		w.inside(ctx, d, name, event.Op)
	}
}

// itself handles what happened to a watched directory. fsnotify ends the watch of a directory that
// is moved or removed, so it is added again where the directory is now.
func (w *watch) itself(ctx context.Context, d *dir, op fsnotify.Op) {
	switch {
	case op.Has(fsnotify.Remove|fsnotify.Rename) && d.parent == nil:
		w.loseSource("the source was moved or removed")
		w.checkSource(ctx)
	case op.Has(fsnotify.Remove | fsnotify.Rename):
		path := d.path()
		w.refresh(ctx, d.parent, d.name, true)
		w.rec.Record(path, changes.Subtree)
	case op.Has(fsnotify.Chmod):
		w.attributes(ctx, d)
	}
}

// inside handles what happened to a name in a watched directory. A name that was a directory is a
// subtree in doubt whatever it is now.
func (w *watch) inside(ctx context.Context, d *dir, name string, op fsnotify.Op) {
	path := d.join(name)
	child := d.child(name)
	_, unwatched := w.unwatched[path]
	wasDir := child != nil || unwatched
	switch {
	case op.Has(fsnotify.Remove|fsnotify.Rename) && wasDir:
		w.refresh(ctx, d, name, true)
		w.rec.Record(path, changes.Subtree)
	case op.Has(fsnotify.Remove | fsnotify.Rename):
		w.rec.Record(path, changes.Gone)
	case op.Has(fsnotify.Create) && w.mayBeDir(d, name):
		w.refresh(ctx, d, name, false)
		w.rec.Record(path, changes.Subtree)
	case op.Has(fsnotify.Create): // or renamed to: what the name led to is gone
		w.rec.Record(path, changes.Gone)
		w.rec.Record(path, changes.Content)
	case op.Has(fsnotify.Write):
		w.rec.Record(path, changes.Content)
	case op.Has(fsnotify.Chmod) && child != nil:
		w.attributes(ctx, child)
	case op.Has(fsnotify.Chmod):
		w.rec.Record(path, changes.Attributes)
	}
}

// attributes handles a change of a directory's mode, owner, times or xattrs.
func (w *watch) attributes(ctx context.Context, d *dir) {
	path := d.path()
	switch {
	case !d.blind:
		w.rec.Record(path, changes.Attributes)
		return
	case d.parent == nil:
		w.scan(ctx, d, w.add)
	default:
		w.refresh(ctx, d.parent, d.name, true)
	}
	w.rec.Record(path, changes.Subtree)
}

// mayBeDir reports false only if there is nothing, or no directory, at name in d. While d is not where
// it should be nobody can tell, and a path would lead to nothing or into another tree: what is moved
// above the source has no event, and may be moved back before anyone looks.
func (w *watch) mayBeDir(d *dir, name string) bool {
	f, _, err := w.at(d, unix.O_PATH)
	if err != nil {
		return true
	}
	defer f.Close()
	st, err := statAt(int(f.Fd()), name)
	if err == nil {
		return st.isDir
	}
	return !errors.Is(err, unix.ENOENT)
}

// absolute returns the absolute path of a path relative to the source.
func (w *watch) absolute(path string) string {
	switch {
	case path == ".":
		return w.source.Path
	case w.source.Path == "/":
		return "/" + path
	}
	return w.source.Path + "/" + path
}

// covers reports whether path, relative to the source, is neither to be skipped nor a mount point
// that is to be left alone.
func (w *watch) covers(path string) bool {
	if w.source.OneFileSystem && w.mounted[path] != nil {
		return false
	}
	_, ok := w.source.Rel(w.absolute(path))
	return ok
}
