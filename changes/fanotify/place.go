package fanotify

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"rsince/changes"
)

// attach makes the view of the source's mount and, as far as they belong to the source, of the
// mounts below it. What of them cannot be watched is in w.blind.
func (w *watch) attach() error {
	table, err := readMounts()
	if err != nil {
		return err
	}
	w.root, err = placeOf(w.source.Path)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("fanotify does not support %s (file system type %s): %w", w.source.Path, typeOf(table, w.source.Path), err)
	}
	if err != nil {
		return err
	}
	v, err := w.group.view(table, w.root.mountID, w.source.Path)
	if err != nil {
		return err
	}
	w.join(v)
	w.mounted = w.mountsBelow(table)
	w.blind = make(map[string]string)
	for path, id := range w.mounted {
		w.cover(table, path, id)
	}
	w.checked = time.Now()
	return nil
}

// typeOf returns the type of the file system of path, for an error's text.
func typeOf(table map[int]*mountinfo.Info, path string) string {
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &stat); err == nil {
		if m := table[int(stat.Mnt_id)]; m != nil {
			return m.FSType
		}
	}
	return "unknown"
}

// join makes w one of the watches of v.
func (w *watch) join(v *view) {
	if !slices.Contains(v.watches, w) {
		v.watches = append(v.watches, w)
	}
	v.forget()
}

// cover watches the mount at path too if the source includes it.
func (w *watch) cover(table map[int]*mountinfo.Info, path string, id int) {
	delete(w.blind, path)
	if w.source.OneFileSystem {
		return
	}
	v, err := w.group.view(table, id, path)
	if err != nil {
		w.blind[path] = err.Error()
		return
	}
	w.join(v)
}

// mountsBelow returns the mount points strictly below the source, with their mounts' ids. Of a
// source that ends at mount points these are the ones it ends at; they are not touched, since
// looking at a dead network file system blocks. Otherwise they are those that can be seen.
func (w *watch) mountsBelow(table map[int]*mountinfo.Info) map[string]int {
	points := make(map[string]int)
	for _, m := range table {
		rel, ok := w.source.Rel(m.Mountpoint)
		if !ok || rel == "." {
			continue
		}
		if w.source.OneFileSystem {
			if m.Parent == w.root.mountID {
				points[m.Mountpoint] = m.ID
			}
			continue
		}
		if at, err := placeOf(m.Mountpoint); err == nil && at.mountID != m.ID {
			continue // another mount hides it
		}
		points[m.Mountpoint] = m.ID
	}
	return points
}

// dirsOn returns directories of the source that lie on the mount with this id.
func (w *watch) dirsOn(id int) []string {
	var dirs []string
	if w.root.mountID == id {
		dirs = append(dirs, w.source.Path)
	}
	for path, mounted := range w.mounted {
		if mounted == id && !w.source.OneFileSystem {
			dirs = append(dirs, path)
		}
	}
	return dirs
}

// remounted looks at the mounts again after some changed.
func (g *Group) remounted() {
	table, err := readMounts()
	if err != nil {
		g.gap("looking at the mounts: " + err.Error())
		return
	}
	for _, v := range slices.Clone(g.views) {
		alive := v.isAlive(g.queue, table)
		v.rest()
		v.forget()
		if !alive {
			v.close()
			g.views = slices.DeleteFunc(g.views, func(other *view) bool { return other == v })
		}
	}
	for _, w := range g.watches {
		w.remount(table)
	}
}

// remount compares the mounts below the source with those it had.
func (w *watch) remount(table map[int]*mountinfo.Info) {
	if w.lost != "" {
		return
	}
	if !w.has(w.root.mountID) {
		w.root = place{}
		return
	}
	was := w.mounted
	w.mounted = w.mountsBelow(table)
	for path, id := range w.mounted {
		if old, ok := was[path]; ok && old == id && (w.source.OneFileSystem || w.has(id) || w.blind[path] != "") {
			continue
		}
		w.cover(table, path, id)
		w.remountedAt(path, "mounted")
	}
	for path := range was {
		if _, still := w.mounted[path]; !still {
			delete(w.blind, path)
			w.remountedAt(path, "unmounted")
		}
	}
}

// remountedAt records that something else is visible at path.
func (w *watch) remountedAt(path, what string) {
	if refused := w.blind[path]; refused != "" {
		what += ": " + refused
	}
	// From before, nothing is known of what is visible now.
	w.gap(path, what, time.Time{})
	w.record(path, changes.Subtree)
}

// has reports whether w has a view of the mount with this id.
func (w *watch) has(id int) bool {
	return slices.ContainsFunc(w.group.views, func(v *view) bool {
		return v.mount.ID == id && slices.Contains(v.watches, w)
	})
}

// look makes sure that the sources are still what is at their paths.
func (g *Group) look() {
	for _, w := range g.watches {
		w.look(time.Now())
	}
}

// look compares what is at the source's path with what is watched, and goes over to it. It records
// a gap when something changed, and only then.
func (w *watch) look(now time.Time) {
	at, err := placeOf(w.source.Path)
	switch {
	case w.lost != "":
		if at != w.root || now.Sub(w.tried) >= look {
			w.tried = now
			w.replace(at, err, "the source is there again")
		}
	case err != nil || at != w.root:
		w.replace(at, err, "something else is at the source's path than before")
	case w.moved:
		w.gap(w.source.Path, "the source or a directory above it was renamed", w.checked)
	case w.group.read.After(w.checked):
		// Not now: of a rename since, the queue has yet to tell.
		w.checked = w.group.read
	}
	w.moved = false
}

// replace goes over to watching at, which is what the source's path leads to now, or err when it
// leads nowhere.
func (w *watch) replace(at place, err error, reason string) {
	w.group.leave(w)
	since := time.Time{} // of what is there now, nothing is known from before
	if err == nil {
		err = w.attach()
	} else {
		since = w.checked
	}
	was := w.lost
	w.lost = ""
	if err != nil {
		w.root = at
		w.lost = "the source cannot be watched: " + err.Error()
		reason = w.lost
	}
	if w.lost != "" && w.lost == was {
		return
	}
	w.gap(w.source.Path, reason, since)
}

// placeOf returns what path leads to.
func placeOf(path string) (place, error) {
	h, id, err := handleAt(path)
	if err != nil {
		return place{}, fmt.Errorf("looking at %s: %w", path, err)
	}
	return place{id, h}, nil
}
