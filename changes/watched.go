package changes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// drainWithin bounds the wait for a backend.
const drainWithin = 30 * time.Second

// Watched is a profile as the watcher needs it.
type Watched struct {
	Name    string
	Source  Source
	Journal string // its directory
	Backend string // the name of a Backend, or "auto"
}

// Status is what a watcher says of a profile it watches.
type Status struct {
	PID           int       `json:"pid"`
	Source        Source    `json:"source"`
	Backend       string    `json:"backend"`
	BackendReason string    `json:"backend_reason,omitempty"` // why none of the better ones
	Since         time.Time `json:"since"`                    // start of unbroken watching
	Failed        string    `json:"failed,omitempty"`         // why it is not watched; the rest is empty then
}

// same reports whether both are to be watched in the same way.
func (p Watched) same(o Watched) bool {
	return p.Name == o.Name && p.Backend == o.Backend && p.Journal == o.Journal && p.Source.Same(o.Source)
}

// watched is a profile while it is being watched: the Recorder between a backend and the journal.
type watched struct {
	profile   Watched
	journal   *Journal
	watch     Watch
	report    func(string)
	complaint string // what was last reported of beat

	// using is held for reading while a request is answered, and taken to stop.
	using   sync.RWMutex
	stopped bool

	mu     sync.Mutex
	status Status
}

// start opens the journal of p and begins to watch it with the first of the backends that can. When
// it returns, the journal says durably that what happened before was not seen.
func start(ctx context.Context, p Watched, backends []Backend, report func(string)) (*watched, error) {
	journal, err := openSoon(ctx, p.Journal)
	if err != nil {
		return nil, err
	}
	w := &watched{profile: p, journal: journal, report: report}
	if err := w.begin(ctx, backends); err != nil {
		return nil, errors.Join(err, journal.Close())
	}
	journal.RecordGap(unwatched("the watcher was not running", p.Journal))
	if err := journal.Flush(); err != nil {
		return nil, errors.Join(err, w.watch.Close(), journal.Close())
	}
	return w, nil
}

// openSoon is Open, and has patience with a run that found no watcher and has the journal for a
// moment.
func openSoon(ctx context.Context, dir string) (*Journal, error) {
	for deadline := time.Now().Add(time.Second); ; {
		journal, err := Open(dir)
		if !errors.Is(err, ErrBusy) || time.Now().After(deadline) || !wait(ctx, 10*time.Millisecond) {
			return journal, err
		}
	}
}

// begin starts the watch. The error says why none of the backends can.
func (w *watched) begin(ctx context.Context, backends []Backend) error {
	var refusals error
	for _, b := range backends {
		if w.profile.Backend != "auto" && w.profile.Backend != b.Name() {
			continue
		}
		watch, err := b.Watch(ctx, w.profile.Source, w)
		if err != nil {
			refusals = errors.Join(refusals, fmt.Errorf("%s: %w", b.Name(), err))
			continue
		}
		w.watch = watch
		w.mu.Lock()
		defer w.mu.Unlock()
		w.status = Status{PID: os.Getpid(), Source: w.profile.Source, Backend: b.Name(), Since: time.Now()}
		if refusals != nil {
			w.status.BackendReason = refusals.Error()
		}
		return nil
	}
	if refusals == nil {
		return fmt.Errorf("there is no backend %q", w.profile.Backend)
	}
	return refusals
}

// Record implements Recorder.
func (w *watched) Record(path string, kind Kind) { w.journal.Record(path, kind) }

// RecordRename implements Recorder.
func (w *watched) RecordRename(from, to string, dir bool) { w.journal.RecordRename(from, to, dir) }

// RecordFile implements Recorder.
func (w *watched) RecordFile(handle Handle) { w.journal.RecordFile(handle) }

// RecordGap implements Recorder, and tells the person of a gap that was neither known since the last
// cut nor told by the backend.
func (w *watched) RecordGap(gap Gap) {
	if w.journal.noteGap(gap) && !gap.Told {
		w.report(gap.String())
	}
	if gap.Subtree == "." {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.status.Since = time.Now()
	}
}

// Status tells how the profile is being watched.
func (w *watched) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// beat drains the watch and notes until when the journal now knows everything.
func (w *watched) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	t := time.Now()
	if err := w.watch.Drain(ctx); err != nil {
		return fmt.Errorf("reading what changed: %w", err)
	}
	return w.journal.Beat(t)
}

// complain reports an error once, not every few seconds, until it is over or another one comes.
func (w *watched) complain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != w.complaint && text != "" {
		w.report(text)
	}
	w.complaint = text
}

// stop drains the watch a last time, so that the gap begins only now, and waits for requests under
// way. Later ones find nobody watching.
func (w *watched) stop() error {
	w.using.Lock()
	defer w.using.Unlock()
	w.stopped = true
	err := w.beat(context.Background())
	return errors.Join(err, w.watch.Close(), w.journal.Close())
}

// answer serves a request about the profile.
func (w *watched) answer(ctx context.Context, req request) reply {
	w.using.RLock()
	defer w.using.RUnlock()
	switch {
	case w.stopped:
		return reply{Unwatched: true}
	case req.Op == "cut":
		return w.cut(ctx)
	case req.Op == "flush":
		return failure(w.beat(ctx))
	}
	return reply{Error: fmt.Sprintf("unknown request %q", req.Op)}
}

func (w *watched) cut(ctx context.Context) reply {
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	t := time.Now()
	drainErr := w.watch.Drain(ctx)
	if drainErr != nil {
		w.RecordGap(unwatched("the watch did not answer: "+drainErr.Error(), w.profile.Journal))
	}
	id, err := w.journal.cut()
	if err == nil && drainErr == nil {
		err = w.journal.Beat(t) // should the watcher die before its next beat, the gap begins here
	}
	if err != nil {
		return failure(err)
	}
	return reply{Batch: id, Cut: t, Profiles: map[string]Status{w.profile.Name: w.Status()}}
}

func failure(err error) reply {
	if err == nil {
		return reply{}
	}
	r := reply{Error: err.Error()}
	errors.As(err, &r.Errno)
	return r
}
