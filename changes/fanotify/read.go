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

// turn deals with one buffer of events, and before that waits for something to happen unless there
// is something left to do. So neither an ending nor a look at the sources waits for a long queue.
func (g *Group) turn(fds []unix.PollFd) error {
	if err := g.await(fds); err != nil {
		return err
	}
	// Taken before anything is looked at: what finished before a request was made is told before
	// it is run.
	if err := g.takeRequests(int(fds[0].Fd)); err != nil || g.closing {
		return err
	}
	mounted := fds[1].Revents != 0
	if err := poll(fds[1:2], 0); err != nil {
		return err
	}
	if mounted || fds[1].Revents != 0 {
		g.remounted()
	}
	if err := g.readOnce(); err != nil {
		return err
	}
	g.rest()
	g.look()
	g.runRequests()
	return nil
}

// await waits for something to happen, if nothing is left to do.
func (g *Group) await(fds []unix.PollFd) error {
	if g.told < g.reading.events || len(g.waiting) > 0 {
		return poll(fds, 0)
	}
	if err := poll(fds, look); err != nil {
		return err
	}
	if fds[2].Revents != 0 && fds[0].Revents == 0 {
		// Only a request ends the wait for the queue to fill.
		return poll(fds[:1], fill)
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

// takeRequests runs the endings among the requests made so far, and has the others wait for the
// events that are in the queue now.
func (g *Group) takeRequests(wake int) error {
	// Reset before the channel is read: a request made in between wakes once too often. It does
	// not block, and that nothing was there is no error.
	unix.Read(wake, make([]byte, 8))
	var taken []request
	for len(g.requests) > 0 {
		if r := <-g.requests; r.atOnce {
			r.done <- r.run()
		} else {
			taken = append(taken, r)
		}
	}
	if len(taken) == 0 {
		return nil
	}
	last, err := g.end()
	for _, r := range taken {
		r.after = last.events
		g.waiting = append(g.waiting, r)
	}
	return err
}

// runRequests runs those requests that do not have to wait any longer.
func (g *Group) runRequests() {
	for len(g.waiting) > 0 && g.waiting[0].after <= g.told {
		r := g.waiting[0]
		g.waiting = g.waiting[1:]
		r.done <- r.run()
	}
}

// An end is where the queue ended at some time: everything that finished before is told when so many
// events are.
type end struct {
	time   time.Time
	events uint64
}

// end returns where the queue ends now.
func (g *Group) end() (end, error) {
	now := time.Now()
	// FIONREAD by its other name. The kernel counts the metadata alone (fanotify_ioctl).
	size, err := unix.IoctlGetUint32(g.queue, unix.TIOCINQ)
	if err != nil {
		return end{}, fmt.Errorf("asking for the length of the queue: %w", err)
	}
	if size == 0 {
		g.told = max(g.told, g.queued)
	}
	e := end{now, g.told + uint64(size/metadataSize)}
	g.queued = max(g.queued, e.events)
	return e, nil
}

// readOnce reads a buffer of what the queue held when the reading began, and tells the Recorders. A
// reading does not go on until the queue is empty: many writers could keep it from ever being so.
func (g *Group) readOnce() (err error) {
	if g.told >= g.reading.events {
		if g.reading, err = g.end(); err != nil {
			return err
		}
	}
	if g.told < g.reading.events {
		n, err := unix.Read(g.queue, g.buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			g.told = max(g.told, g.queued)
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		}
		g.take(g.buf[:max(n, 0)])
	}
	return nil
}

// take tells the Recorders of the events in buf.
func (g *Group) take(buf []byte) {
	for len(buf) > 0 {
		e, rest, err := decode(buf)
		if err != nil {
			g.gap("the kernel's events are not understood: " + err.Error())
			return
		}
		g.apply(&e)
		g.told++
		buf = rest
	}
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

// rest ends a reading. What was missed in it happened after the one before.
func (g *Group) rest() {
	for _, v := range g.views {
		v.rest()
	}
	if g.told >= g.reading.events {
		g.read = g.reading.time
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
