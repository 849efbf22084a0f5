package inotify

import (
	"context"
	"errors"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// trouble receives fsnotify's errors.
//
// It must do so at once and in a goroutine of its own: when a directory is moved and then removed
// before fsnotify has read of the move, it sends the error of inotify_rm_watch(2) while it holds the
// lock that Add and Remove wait for.
type trouble struct {
	wake chan struct{} // has a value when there is something to take
	take chan error    // gives the error since the last time, nil for none
	done chan struct{}
}

func collect(errs <-chan error) *trouble {
	t := &trouble{wake: make(chan struct{}, 1), take: make(chan error), done: make(chan struct{})}
	go func() {
		defer close(t.done)
		var last error
		for {
			select {
			case err, ok := <-errs:
				if !ok {
					return
				}
				if errors.Is(err, unix.EINVAL) {
					continue // the watch to be removed had ended with its directory
				}
				last = err
				select {
				case t.wake <- struct{}{}:
				default:
				}
			case t.take <- last:
				last = nil
			}
		}
	}()
	return t
}

// recover looks at everything again after events were lost. An error that fsnotify sent before an
// event is known here when the event is handled.
func (w *watch) recover(ctx context.Context) {
	err := <-w.trouble.take
	if err == nil {
		return
	}
	if w.root != nil {
		w.scan(ctx, w.root, w.add)
	}
	if errors.Is(err, fsnotify.ErrEventOverflow) {
		limit, _ := sysctl("fs.inotify.max_queued_events")
		w.gap(".", "the kernel's queue of events overflowed (fs.inotify.max_queued_events is %d)", limit)
	} else {
		w.gap(".", "reading events failed: %v", err)
	}
	w.beginAgain(ctx)
}
