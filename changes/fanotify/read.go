package fanotify

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// fill is how long the queue is left alone once it holds something. Equal events merge in the
	// queue meanwhile: read eagerly, 100,000 small writes cost the writer half as much again.
	fill = 10 * time.Millisecond

	// look is how often the sources' paths are looked at while nothing happens: no event tells of
	// a directory renamed on another file system.
	look = time.Second
)

// loop reads the queue until the group is closed.
func (g *Group) loop(wake, mounts int) {
	defer close(g.done)
	defer g.wake.Close()
	defer unix.Close(mounts)
	defer unix.Close(g.queue)
	defer g.endViews()

	fds := []unix.PollFd{
		{Fd: int32(wake), Events: unix.POLLIN},
		{Fd: int32(mounts), Events: unix.POLLPRI | unix.POLLERR}, // proc_pid_mountinfo(5)
		{Fd: int32(g.queue), Events: unix.POLLIN},
	}
	for !g.closing {
		if err := g.turn(fds); err != nil {
			g.gap("reading the kernel's events: " + err.Error())
			return
		}
	}
}

// turn waits for something to happen and deals with it.
func (g *Group) turn(fds []unix.PollFd) error {
	if err := poll(fds, look); err != nil {
		return err
	}
	if fds[2].Revents != 0 && fds[0].Revents == 0 {
		// Only a request ends the wait for the queue to fill.
		if err := poll(fds[:1], fill); err != nil {
			return err
		}
	}
	// Taken before anything is looked at: what finished before a request was made is told before
	// it is run.
	requests := g.takeRequests(int(fds[0].Fd))
	mounted := fds[1].Revents != 0
	if err := poll(fds[1:2], 0); err != nil {
		return err
	}
	if mounted || fds[1].Revents != 0 {
		g.remounted()
	}
	if err := g.readAll(); err != nil {
		return err
	}
	g.look()
	for _, r := range requests {
		r.done <- r.run()
	}
	return nil
}

// poll is poll(2); an interrupted wait counts as over.
func poll(fds []unix.PollFd, timeout time.Duration) error {
	for i := range fds {
		fds[i].Revents = 0
	}
	_, err := unix.Poll(fds, int(timeout.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("poll: %w", err)
	}
	return nil
}

// takeRequests returns the requests made so far.
func (g *Group) takeRequests(wake int) []request {
	// Reset before the channel is read: a request made in between wakes once too often. It does
	// not block, and that nothing was there is no error.
	unix.Read(wake, make([]byte, 8))
	var taken []request
	for {
		select {
		case r := <-g.requests:
			taken = append(taken, r)
		default:
			return taken
		}
	}
}

// readAll reads what the queue holds now and tells the Recorders.
func (g *Group) readAll() error {
	now := time.Now()
	// FIONREAD by its other name. The kernel counts the metadata alone (fanotify_ioctl).
	size, err := unix.IoctlGetUint32(g.queue, unix.TIOCINQ)
	if err != nil {
		return fmt.Errorf("asking for the length of the queue: %w", err)
	}
	// Not until it is empty: many writers could keep it from ever being so.
	for events := int(size / metadataSize); events > 0; {
		n, err := unix.Read(g.queue, g.buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			events = 0
		case err != nil:
			return err
		}
		events -= g.take(g.buf[:max(n, 0)])
	}
	g.rest()
	g.read = now
	return nil
}

// take tells the Recorders of the events in buf and returns their number.
func (g *Group) take(buf []byte) (n int) {
	for ; len(buf) > 0; n++ {
		e, rest, err := decode(buf)
		if err != nil {
			g.gap("the kernel's events are not understood: " + err.Error())
			return n + 1
		}
		g.apply(&e)
		buf = rest
	}
	return n
}

// apply tells the Recorders of one event.
func (g *Group) apply(e *event) {
	if e.mask&unix.FAN_Q_OVERFLOW != 0 {
		for _, v := range g.views {
			v.forget()
		}
		g.gap("the kernel's event queue overflowed")
		return
	}
	for _, v := range g.views {
		if v.fsid == e.fsid {
			v.apply(e)
		}
	}
}

// rest ends a reading.
func (g *Group) rest() {
	for _, v := range g.views {
		v.rest()
	}
}

// endViews lets go of what the views hold. The marks go with the queue.
func (g *Group) endViews() {
	for _, v := range g.views {
		v.close()
	}
}

// gap tells every Recorder that events since the queue was last read are lost.
func (g *Group) gap(reason string) {
	for _, w := range g.watches {
		w.gap(w.source.Path, reason, g.read)
	}
}
