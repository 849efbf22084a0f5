// Package fanotify hears about changes from one mark on a whole file system, however many
// directories it has (fanotify(7), Linux 5.17).
//
//	queue ─▶ decode ─▶ event ─▶ view: handle ─▶ path ─▶ watch: in the source? ─▶ Recorder
//
// An event carries the handle of a directory and a name in it. The handle is resolved to the path
// the directory has now, which is what a copy of the present wants: see view. One goroutine does
// all of it and owns all state; the methods send it requests.
package fanotify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

const (
	// eventFlags ask for the parent's handle with the name, and for the handle of the file itself.
	eventFlags = unix.FAN_REPORT_DFID_NAME | unix.FAN_REPORT_FID | unix.FAN_REPORT_TARGET_FID

	initFlags = unix.FAN_CLASS_NOTIF | eventFlags | unix.FAN_UNLIMITED_QUEUE | unix.FAN_UNLIMITED_MARKS |
		unix.FAN_CLOEXEC | unix.FAN_NONBLOCK

	// eventMask needs no FAN_EVENT_ON_CHILD: for a mark on a file system with names the kernel
	// adds it (do_fanotify_mark).
	eventMask = unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_RENAME |
		unix.FAN_MODIFY | unix.FAN_CLOSE_WRITE | unix.FAN_ATTRIB | unix.FAN_ONDIR
)

// ErrClosed is what the methods of a Group and its watches return once it is closed or could not go on
// reading, or the watch is closed.
var ErrClosed = errors.New("fanotify group is closed")

// A Group is one fanotify queue with a mark on each file system that holds a source.
// It implements changes.Backend.
type Group struct {
	queue    int
	wake     *os.File // an eventfd: requests are waiting
	requests chan request
	done     chan struct{} // closed when the reading goroutine has ended

	// All below belongs to the reading goroutine.
	views   []*view
	watches []*watch
	buf     []byte
	told    uint64    // how many events were told
	queued  uint64    // how many are known to have been queued; that the queue is empty says they were told
	reading end       // what is read before anything that came later is waited for
	read    time.Time // everything that finished before is told
	waiting []request // in the order of their ends
	closing bool
}

// A request is run by the reading goroutine, after it has told everything queued before.
type request struct {
	run    func() error
	done   chan error
	atOnce bool   // it does not wait for what is queued
	after  uint64 // how many events are told before
}

// Open makes a group without marks. It fails without CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH, and
// before Linux 5.17; the error says which.
func Open() (*Group, error) {
	if err := checkCapabilities(); err != nil {
		return nil, err
	}
	queue, err := unix.FanotifyInit(initFlags, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
	if err != nil {
		return nil, fmt.Errorf("fanotify_init: %w", explainInit(err))
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(queue)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	// Not an os.File: the runtime's own poller would take the notices of changes.
	mounts, err := unix.Open(mountTable, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(queue)
		unix.Close(wake)
		return nil, fmt.Errorf("opening %s: %w", mountTable, err)
	}
	g := &Group{
		queue:    queue,
		wake:     os.NewFile(uintptr(wake), "eventfd"),
		requests: make(chan request, 16),
		done:     make(chan struct{}),
		buf:      make([]byte, 64<<10),
		read:     time.Now(),
	}
	go g.loop(wake, mounts)
	return g, nil
}

// Name implements changes.Backend.
func (g *Group) Name() string { return "fanotify" }

// Watch implements changes.Backend. It fails if the source's file system, or without
// Source.OneFileSystem one mounted below it, cannot be marked.
func (g *Group) Watch(ctx context.Context, source changes.Source, rec changes.Recorder) (changes.Watch, error) {
	w := &watch{group: g, source: source, rec: rec}
	if err := g.do(ctx, w.start); err != nil {
		// Nobody may have waited for the end of w.start.
		return nil, errors.Join(fmt.Errorf("watching %s: %w", source.Path, err), w.Close())
	}
	return w, nil
}

// Close ends all watches, without what the queue still holds. Nothing is told to a Recorder after it
// returns.
func (g *Group) Close() error {
	err := g.doAtOnce(func() error {
		g.closing = true
		return nil
	})
	<-g.done
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

// do has the reading goroutine run f when it has told everything that finished before, and returns
// its error. When ctx ends first, f may still be run.
func (g *Group) do(ctx context.Context, f func() error) error {
	return g.ask(ctx, request{run: f})
}

// doAtOnce has the reading goroutine run f as soon as it has told what it has read.
func (g *Group) doAtOnce(f func() error) error {
	return g.ask(context.Background(), request{run: f, atOnce: true})
}

func (g *Group) ask(ctx context.Context, r request) error {
	r.done = make(chan error, 1)
	select {
	case g.requests <- r:
	case <-g.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	if _, err := g.wake.Write(binary.NativeEndian.AppendUint64(nil, 1)); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("waking the fanotify reader: %w", err)
	}
	select {
	case err := <-r.done:
		return err
	case <-g.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
