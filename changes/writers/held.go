package writers

import (
	"context"
	"errors"
	"time"
)

const (
	// workers is how many holders are looked at at once.
	workers = 8
	// patience is how long to wait for the next answer. A process does not answer while a page fault
	// of its own waits for a server or for a frozen file system, which may be for ever.
	patience = 2 * time.Second
)

var errSilent = errors.New("no answer")

// A holder can hold files open for writing.
type holder interface {
	held(*mounts) ([]held, error)
	String() string
}

// A held file is a regular file that somebody can write to.
type held struct {
	file
	process string // who holds it, in /proc; empty if it is the kernel
	mapped  bool   // by a mapping, not by a descriptor
	link    string // leads to the file while it is held; empty if nothing does
	path    string // as the kernel tells it, which may be wrong by now or meant in another namespace
}

// lost reports whether nothing leads to the file, so that no more than its identity is known.
func (h held) lost() bool { return h.link == "" }

type report struct {
	holder holder
	held   []held
	err    error
}

// ask notes what the holders hold. Those who do not answer are left to themselves.
func (f *finder) ask(ctx context.Context, holders []holder) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan holder, len(holders))
	reports := make(chan report, len(holders))
	waiting := map[holder]bool{}
	for _, h := range holders {
		queue <- h
		waiting[h] = true
	}
	close(queue)
	for range min(workers, len(holders)) {
		go f.mounts.answer(ctx, queue, reports)
	}
	silence := time.NewTimer(patience)
	defer silence.Stop()
	for len(waiting) > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-reports:
			f.take(r)
			delete(waiting, r.holder)
			silence.Reset(patience)
		case <-silence.C:
			for h := range waiting {
				f.unseen.add(h.String(), errSilent)
			}
			return nil
		}
	}
	return nil
}

func (m *mounts) answer(ctx context.Context, queue <-chan holder, reports chan<- report) {
	for h := range queue {
		if ctx.Err() != nil {
			return
		}
		held, err := h.held(m)
		reports <- report{h, held, err}
	}
}

func (f *finder) take(r report) {
	for _, h := range r.held {
		f.note(h)
	}
	if r.err != nil && !(f.ownOnly && errors.Is(r.err, errRefused)) {
		f.unseen.add(r.holder.String(), r.err)
	}
}
