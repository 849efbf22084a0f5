package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rsince/logs"
	"rsince/sync/profile"
)

// A Holder is the run that has a target locked. It signs the lock file of the target.
type Holder struct {
	Owner   logs.Owner `json:"owner"`
	Profile string     `json:"profile"`
	Target  string     `json:"target"`
	Since   time.Time  `json:"since"`
}

// A LockedError says that another run holds the target, or one that contains it or lies in it.
type LockedError struct {
	Holder Holder // zero if it is not known
	Dead   bool   // the holder is, but the kernel has not let go of all that it held

	file string // the lock that could not be had
}

func (e *LockedError) Error() string {
	h := e.Holder
	if h == (Holder{}) {
		return "another run holds the target"
	}
	if e.Dead {
		return fmt.Sprintf("what is left of the run of %s that died (process %d, since %s) holds %s", h.Profile, h.Owner.PID, h.Since.Format(time.DateTime), h.Target)
	}
	return fmt.Sprintf("the run of %s holds %s (process %d, since %s)", h.Profile, h.Target, h.Owner.PID, h.Since.Format(time.DateTime))
}

// targetLock keeps every other run away from a target and from what contains it or lies in it:
// there is one lock file for each directory on the way, locked shared, and one for the target,
// locked exclusively. Whoever inherits the files keeps them locked.
type targetLock struct{ files []*os.File }

func (l *targetLock) release() error {
	var errs []error
	for _, f := range l.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// unsigned is how long a lock may be held that the one who holds it has not signed: by a run that has
// just begun, or by a killed process whose files the kernel is still closing, which takes as long as the
// disk does.
const unsigned = 20 * time.Second

// lockTarget waits until wait has passed, ends what a dead run left running on the target, and
// returns a *LockedError if a living run holds it.
func lockTarget(ctx context.Context, dir string, target profile.Target, name string, wait time.Duration) (*targetLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	start := time.Now()
	for {
		lock, err := tryLock(dir, target, name)
		var locked *LockedError
		if !errors.As(err, &locked) {
			return lock, err
		}
		dead, ended, endErr := endOrphans(ctx, dir, locked)
		if endErr != nil {
			return nil, endErr
		}
		patience := wait
		if dead {
			locked.Dead = true
			patience = max(wait, unsigned)
		}
		if !ended && time.Since(start) >= patience {
			return nil, err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func tryLock(dir string, target profile.Target, name string) (*targetLock, error) {
	lock := &targetLock{}
	ways := waysTo(target)
	for i, way := range ways {
		how := unix.LOCK_SH
		if i == len(ways)-1 {
			how = unix.LOCK_EX
		}
		f, err := os.OpenFile(lockPath(dir, way), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, errors.Join(err, lock.release())
		}
		lock.files = append(lock.files, f)
		if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(whoLocked(dir, ways, way), lock.release())
		} else if err != nil {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", f.Name(), err), lock.release())
		}
	}
	if err := sign(lock.files[len(ways)-1], name, target); err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return lock, nil
}

func sign(f *os.File, name string, target profile.Target) error {
	self, err := logs.Self()
	if err != nil {
		return err
	}
	h := Holder{Owner: self, Profile: name, Target: target.String(), Since: time.Now().Round(0)}
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(append(data, '\n'), 0)
	return err
}

// signature reads who locked last; the zero Holder if that cannot be read.
func signature(file string) Holder {
	var h Holder
	data, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(data, &h) != nil || h.Target == "" {
		return Holder{}
	}
	return h
}

// whoLocked finds who stands in the way: for a directory above the target, the run that has it as
// target; for the target itself also a run with a target below.
func whoLocked(dir string, ways []string, way string) *LockedError {
	file := lockPath(dir, way)
	if way != ways[len(ways)-1] || !sharable(file) {
		return &LockedError{Holder: signature(file), file: file}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.lock")) // its only error is a wrong pattern
	for _, other := range files {
		h := signature(other)
		below := strings.HasPrefix(targetWay(h.Target), strings.TrimSuffix(way, "/")+"/")
		if below && !sharable(other) {
			return &LockedError{Holder: h, file: other}
		}
	}
	return &LockedError{file: file}
}

// sharable reports whether nobody holds the lock exclusively.
func sharable(file string) bool {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return true
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil
}

// pause waits for d or until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
