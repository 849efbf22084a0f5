package sync

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"rsince/sync/rsync"
)

// Check tries whether the job could run now: source and target are there and are what they were,
// and rsync behaves. It returns what it found out about the target, or what is amiss. It changes
// nothing but a directory of its own, which it removes, in the target or where that will be. As a run makes and
// removes one too, rsync is not tried while one holds the target.
func (j *Job) Check(ctx context.Context) (string, error) {
	check := *j
	check.DryRun = true
	r := &run{Job: &check, source: WatchedSource(j.Profile, j.Own)}
	var err error
	if r.memory, err = recall(r.Dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(r.Locks, 0o700); err != nil {
		return "", err
	}
	lock, lockErr := tryLock(r.Locks, r.Profile.Target, r.Profile.Name)
	var locked *LockedError
	if errors.As(lockErr, &locked) {
		lock = &targetLock{}
	} else if lockErr != nil {
		return "", lockErr
	}
	defer func() { _ = lock.release() }()
	r.engine = r.newEngine(lock)
	defer func() { _ = r.held.release() }()
	if err := r.meet(ctx); err != nil {
		return "", err
	}
	if locked != nil {
		return fmt.Sprintf("it was not tried: %v", locked), nil
	}
	var found []string
	in, err := r.askFirst(ctx)
	if err != nil {
		return "", err
	}
	if in != "" {
		found = append(found, "the target is not there yet, the first run makes it in "+in)
	}
	found = append(found, "rsync "+r.engine.Capabilities.Version)
	if r.engine.Capabilities.RemoteVersion != "" {
		found = append(found, "there "+r.engine.Capabilities.RemoteVersion)
	}
	if len(r.engine.Capabilities.GivenUp) == 0 {
		found = append(found, "the target keeps everything")
	}
	return strings.Join(append(found, r.engine.Capabilities.GivenUp...), "; "), nil
}

// askFirst asks the target what it keeps. Before the first run it may be missing: then the directory in
// which it will be made is asked instead, and returned.
func (r *run) askFirst(ctx context.Context) (in string, err error) {
	t := r.Profile.Target
	parent, ok := t.Parent()
	if t.Local() && r.held.target == nil {
		if _, err := os.Stat(parent.Path); err != nil {
			return "", &SkippedError{fmt.Errorf("the target is not there, nor is %s, in which the first run makes it: %w", parent.Path, err)}
		}
	} else if err := r.askTarget(ctx); err == nil || t.Local() || !r.firstRun() || !ok || errors.Is(err, rsync.ErrUnreachable) {
		return "", absent(err)
	}
	r.engine.Target = parent.String()
	return parent.String(), r.askTarget(ctx)
}

// LastFull returns when the last full run of the profile with this directory took its list; the
// zero time if there was none.
func LastFull(dir string) (time.Time, error) {
	m, err := recall(dir)
	if err != nil {
		return time.Time{}, err
	}
	return m.LastFull, nil
}
