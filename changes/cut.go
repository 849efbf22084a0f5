package changes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// busyWithin is how long Cut waits for a watcher that starts or ends: it holds the journal but does
// not answer for the profile.
const busyWithin = 60 * time.Second

// errNoCut is about an answer without which a run would take nothing for all there is.
var errNoCut = errors.New("what answers on the watcher's socket does not answer as a watcher does")

// Cut takes the batch of a profile from its journal in dir: through the watcher on socket, which
// first reads whatever the kernel still holds, or, if nobody watches the profile, by itself. In
// that case the batch has a gap that reaches back to the last moment from which all is known. The
// error is ErrBusy if a watcher holds the journal and does not answer.
func Cut(ctx context.Context, socket, dir, profile string) (*Batch, error) {
	ctx, cancel := context.WithTimeout(ctx, busyWithin)
	defer cancel()
	var busy error
	for {
		batch, err := cutWatched(ctx, socket, dir, profile)
		if errors.Is(err, ErrNoWatcher) {
			batch, err = cutUnwatched(dir)
		}
		if err == nil {
			return batch, nil
		}
		if errors.Is(err, ErrBusy) || errors.Is(err, errHungUp) {
			busy = err
			if wait(ctx, 50*time.Millisecond) {
				continue
			}
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			err = ctx.Err()
		} else if busy != nil && (ctx.Err() != nil || isTimeout(err)) {
			err = busy // says more than that the time is up
		}
		return nil, fmt.Errorf("cutting the journal: %w", err)
	}
}

// isTimeout reports whether an error is that of a read, a write or a dial whose time was up, which can be
// moments before a context says so.
func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// wait reports whether the time passed before ctx was done.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func cutWatched(ctx context.Context, socket, dir, profile string) (*Batch, error) {
	r, err := ask(ctx, socket, request{Op: "cut", Profile: profile})
	if err != nil {
		return nil, err
	}
	watch := r.Profiles[profile]
	if r.Cut.IsZero() || watch.Backend == "" {
		return nil, errNoCut
	}
	batch, err := load(dir, r.Batch)
	if err != nil {
		return nil, err
	}
	batch.Cut, batch.Watch = r.Cut, watch
	return batch, nil
}

func cutUnwatched(dir string) (*Batch, error) {
	j, err := Open(dir)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	j.RecordGap(unwatched(ErrNoWatcher.Error(), dir))
	id, err := j.cut()
	if err := errors.Join(err, j.Close()); err != nil {
		return nil, err
	}
	batch, err := load(dir, id)
	if err != nil {
		return nil, err
	}
	batch.Cut = now
	return batch, nil
}

// Ask returns what the watcher on socket watches, by profile; ErrNoWatcher if there is none.
func Ask(ctx context.Context, socket string) (map[string]Status, error) {
	r, err := ask(ctx, socket, request{Op: "status"})
	return r.Profiles, err
}

// Settle asks the watcher on socket to write down all that happened so far, so that Pending shows it.
// ErrNoWatcher if nobody watches the profile.
func Settle(ctx context.Context, socket, profile string) error {
	_, err := ask(ctx, socket, request{Op: "flush", Profile: profile})
	return err
}
