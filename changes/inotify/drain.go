package inotify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// errClosed is what Drain returns once the watch has ended.
var errClosed = errors.New("the watch has ended")

// cookiePrefix begins the names of cookies.
const cookiePrefix = "drain-"

// A drain is a call of Drain that waits for its cookie: a file whose creation is an event in the same
// queue as all others.
type drain struct {
	answer chan error
	begun  time.Time
}

type cookies struct {
	dir     string
	watched *dir
	waiting map[string]drain // by the name of the cookie
	count   int
}

// Drain returns when everything that finished before the call has been told to the Recorder. What
// could not be watched has then been told as a gap. It fails if no cookie can be made, and then says
// nothing about what was told.
func (w *watch) Drain(ctx context.Context) error {
	d := drain{answer: make(chan error, 1)}
	select {
	case w.drains <- d:
	case <-w.done:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-d.answer:
		return err
	case <-w.done:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin makes the cookie of a drain.
func (w *watch) begin(ctx context.Context, d drain) {
	d.begun = time.Now()
	err := fs.ErrNotExist
	if w.cookies.watched != nil {
		err = w.makeCookie(d)
	}
	if errors.Is(err, fs.ErrNotExist) {
		// The directory was removed, even if the event that says so is still to come.
		if err = w.watchCookies(); err == nil {
			err = w.makeCookie(d)
		}
	}
	if errors.Is(err, errLimit) {
		w.measure(ctx, w.notWatched(true))
		err = w.short.limit
	}
	if err != nil {
		d.answer <- fmt.Errorf("draining the queue of inotify: %w", err)
	}
}

func (w *watch) makeCookie(d drain) error {
	w.cookies.count++
	// Other watches of this process see it too; the slot is a descriptor that only this one has.
	name := fmt.Sprintf("%s%d-%d-%d", cookiePrefix, os.Getpid(), w.keys.slot, w.cookies.count)
	path := filepath.Join(w.cookies.dir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), remove(path)); err != nil {
		return err
	}
	w.cookies.waiting[name] = d
	return nil
}

// remove removes a cookie, which the start of another watch may have done already.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// beginAgain makes new cookies for those whose events are lost.
func (w *watch) beginAgain(ctx context.Context) {
	lost := w.cookies.waiting
	w.cookies.waiting = make(map[string]drain)
	for _, d := range lost {
		w.begin(ctx, d)
	}
}

// watchCookies watches the directory of cookies, and removes those of a process that was killed.
func (w *watch) watchCookies() error {
	w.dropCookies()
	if err := os.MkdirAll(w.cookies.dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(w.cookies.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), cookiePrefix) {
			if err := remove(filepath.Join(w.cookies.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	fd, err := unix.Open(w.cookies.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening %s: %w", w.cookies.dir, err)
	}
	defer unix.Close(fd)
	st, err := statAt(fd, "")
	if err != nil {
		return fmt.Errorf("looking at %s: %w", w.cookies.dir, err)
	}
	if other := w.byID[st.identity]; other != nil {
		w.drop(other)
	}
	w.cookies.watched = w.insert(nil, "", st.identity)
	if err := w.listen(w.cookies.watched.key, fd); err != nil {
		w.dropCookies()
		return fmt.Errorf("watching %s: %w", w.cookies.dir, err)
	}
	return nil
}

func (w *watch) dropCookies() {
	if w.cookies.watched != nil {
		w.drop(w.cookies.watched)
		w.cookies.watched = nil
	}
}

// cookie handles an event of the directory of cookies.
func (w *watch) cookie(ctx context.Context, name string, op fsnotify.Op) {
	if name == "" {
		if op.Has(fsnotify.Remove | fsnotify.Rename) {
			w.dropCookies()
			w.beginAgain(ctx)
		}
		return
	}
	waiting, ok := w.cookies.waiting[name]
	if !ok {
		return
	}
	delete(w.cookies.waiting, name)
	w.settle(ctx)
	w.sound = waiting.begun
	waiting.answer <- nil
}

// settle tells what no event tells.
func (w *watch) settle(ctx context.Context) {
	w.recover(ctx)
	w.checkSource(ctx)
	w.checkMounts(ctx)
	w.retryUnwatched(ctx)
	w.tellUnwatched(ctx)
}
