// Package inotify hears of changes through inotify: one watch on every directory of a source, by way
// of github.com/fsnotify/fsnotify. It needs no privilege and works on file systems that refuse a
// fanotify mark; it pays with time and memory for every directory.
//
//	fsnotify ─▶ handle ─▶ Recorder          what happened to a name            (event.go)
//	              └─▶ refresh ─▶ scan       watches for directories that came  (scan.go)
//
// Everything after fsnotify happens in one goroutine, in the order of the kernel's queue. An event
// about a directory is only a reason to look: refresh brings what is watched in line with what is
// there now, and because every change of a name queues its event after the change, the last look at
// a name sees its last state.
//
// inotify does not tell of writes through a memory mapping, nor does fsnotify tell when a file that
// was written is closed; such writers, and those who write a file through a name outside the
// source, are not heard of.
package inotify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"rsince/changes"
)

// buffered is how many events may wait for a long scan to end. Beyond it the kernel's own queue
// fills (fs.inotify.max_queued_events) and then overflows.
const buffered = 1 << 14

// Backend watches by inotify.
type Backend struct {
	// Cookies is a directory for the short-lived files by which Drain finds its place in the
	// kernel's queue. It is made if missing, belongs to the backend alone, and must not be part of
	// a source.
	Cookies string
}

// Name returns "inotify".
func (b *Backend) Name() string { return "inotify" }

// Watch returns when every directory of source is watched. ctx limits that beginning; Close ends the
// watch. The error is a *LimitError when the kernel allows too few watches or instances.
func (b *Backend) Watch(ctx context.Context, source changes.Source, rec changes.Recorder) (changes.Watch, error) {
	w := b.watch(source, rec)
	if err := w.open(ctx); err != nil {
		w.release()
		return nil, fmt.Errorf("watching %s: %w", source.Path, err)
	}
	ctx, w.stop = context.WithCancel(context.Background())
	go w.run(ctx)
	return w, nil
}

func (b *Backend) watch(source changes.Source, rec changes.Recorder) *watch {
	return &watch{
		source:    source,
		rec:       rec,
		cookies:   cookies{dir: b.Cookies, waiting: make(map[string]drain)},
		byID:      make(map[identity]*dir),
		byKey:     make(map[uint64]*dir),
		unwatched: make(map[string]error),
		listing:   make([]byte, 1<<16),
		drains:    make(chan drain),
		done:      make(chan struct{}),
	}
}

// watch is a source being watched. Its fields belong to the goroutine of run.
type watch struct {
	source changes.Source
	rec    changes.Recorder

	fs      *fsnotify.Watcher
	trouble *trouble
	keys    *keys
	mounts  *mounts
	cookies cookies

	root      *dir // nil while the source is not there
	rootMount uint64
	byID      map[identity]*dir
	byKey     map[uint64]*dir
	// mounted has the mount points below the source, as paths relative to it, with the ids of what
	// is mounted there.
	mounted map[string][]int
	// unwatched has the paths below which changes go unnoticed, and why: they are tried again, and
	// are a gap, at every drain.
	unwatched map[string]error
	short     shortage
	// sound is when everything that had happened was last known to have been told.
	sound time.Time

	listing []byte // room for the names of a directory

	drains chan drain
	stop   context.CancelFunc
	done   chan struct{} // closed when run has returned
	closed sync.Once
}

func (w *watch) open(ctx context.Context) (err error) {
	w.sound = time.Now()
	if w.fs, err = fsnotify.NewBufferedWatcher(buffered); err != nil {
		return newWatcherError(err)
	}
	w.trouble = collect(w.fs.Errors)
	if w.keys, err = newKeys(); err != nil {
		return err
	}
	if w.mounts, err = watchMounts(); err != nil {
		return err
	}
	if w.mounted, err = mountsBelow(w.source); err != nil {
		return err
	}
	if err = w.watchCookies(); err == nil {
		err = w.watchSource(ctx)
	} else if errors.Is(err, errLimit) {
		w.unwatched["."] = err
	}
	if err != nil && !errors.Is(err, errLimit) {
		return err
	}
	return w.checkLimit(ctx)
}

func (w *watch) run(ctx context.Context) {
	defer close(w.done)
	for {
		var again <-chan time.Time
		if w.root == nil {
			again = time.After(time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case event := <-w.fs.Events:
			w.handle(ctx, event)
		case <-w.trouble.wake:
			w.recover(ctx)
		case <-w.mounts.changed:
			w.checkSource(ctx)
			w.checkMounts(ctx)
		case <-again:
			w.checkSource(ctx)
		case d := <-w.drains:
			w.begin(ctx, d)
		}
	}
}

// Close ends the watch.
func (w *watch) Close() error {
	var err error
	w.closed.Do(func() {
		w.stop()
		<-w.done
		err = w.release()
	})
	return err
}

func (w *watch) release() error {
	if w.mounts != nil {
		w.mounts.close()
	}
	if w.keys != nil {
		w.keys.close()
	}
	if w.fs == nil {
		return nil
	}
	// fsnotify closes Errors, which ends the goroutine of collect, and waits for its own.
	err := w.fs.Close()
	if w.trouble != nil {
		<-w.trouble.done
	}
	return err
}

func (w *watch) gap(subtree, format string, args ...any) {
	w.rec.RecordGap(changes.Gap{Reason: fmt.Sprintf(format, args...), Subtree: subtree, Since: w.sound})
}
