package fanotify

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"rsince/changes"
)

// A watch is a source being watched. It implements changes.Watch.
type watch struct {
	group  *Group
	source changes.Source
	rec    changes.Recorder

	// All below belongs to the reading goroutine.
	root    place
	mounted map[string]int    // the mount points below the source, and the mounts' ids
	blind   map[string]string // the mount points below that cannot be watched, and why
	lost    string            // why the source itself is not watched, or empty
	tried   time.Time         // when it was last tried to watch a lost source
	moved   bool              // the source was seen to be renamed, to or from its path
	checked time.Time         // until then the source is known to have been where it should be
	ended   bool
}

// A place is what a path leads to.
type place struct {
	mountID int
	handle  changes.Handle
}

// Drain implements changes.Watch. While the source, or a mount below it, cannot be watched, it
// records a gap each time, so that no cut goes without.
func (w *watch) Drain(ctx context.Context) error {
	return w.group.do(ctx, func() error {
		if w.ended {
			return ErrClosed
		}
		if w.lost != "" {
			w.gap(w.source.Path, w.lost, w.checked)
		}
		for path, reason := range w.blind {
			w.gap(path, reason, time.Time{})
		}
		return nil
	})
}

// Close implements changes.Watch. It does not wait for what the queue holds.
func (w *watch) Close() error {
	err := w.group.doAtOnce(func() error {
		w.stop()
		return nil
	})
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

// start begins to watch; it runs in the reading goroutine.
func (w *watch) start() error {
	if w.ended { // nobody waited for it to begin
		return ErrClosed
	}
	if err := w.attach(); err != nil {
		w.group.leave(w)
		return err
	}
	for _, reason := range w.blind {
		w.group.leave(w)
		return errors.New(reason)
	}
	w.group.watches = append(w.group.watches, w)
	return nil
}

// stop ends the watch; it runs in the reading goroutine.
func (w *watch) stop() {
	w.ended = true
	w.group.leave(w)
	w.group.watches = slices.DeleteFunc(w.group.watches, func(other *watch) bool { return other == w })
}

// record records path if it belongs to the source.
func (w *watch) record(path string, kind changes.Kind) {
	if rel, ok := w.rel(path); ok {
		w.rec.Record(rel, kind)
	}
}

// rel returns path relative to the source, if it is a part of it.
func (w *watch) rel(path string) (string, bool) {
	if path == "" {
		return "", false
	}
	rel, ok := w.source.Rel(path)
	return rel, ok && !w.hides(path)
}

// gap records that changes at or below path may have been missed since then.
func (w *watch) gap(path, reason string, since time.Time) {
	if rel, ok := w.source.Rel(path); ok {
		w.rec.RecordGap(changes.Gap{Subtree: rel, Reason: reason, Since: since})
	}
}

// hides reports whether path is at or below a mount point of a source that ends there.
func (w *watch) hides(path string) bool { return w.source.OneFileSystem && w.mountedAt(path) }

// mountedAt reports whether path is at or below a mount point in the source.
func (w *watch) mountedAt(path string) bool {
	for point := range w.mounted {
		if below(path, point) {
			return true
		}
	}
	return false
}

// below reports whether path is dir or below it; both are absolute and clean.
func below(path, dir string) bool {
	if dir == "/" {
		return true
	}
	return strings.HasPrefix(path, dir) && (len(path) == len(dir) || path[len(dir)] == '/')
}
