package sync

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Check tries whether the job could run now: source and target are there and are what they were,
// and rsync behaves. It returns what it found out about the target, or what is amiss. It changes
// nothing but a directory of its own, which it removes, in the target or where that will be.
func (j *Job) Check(ctx context.Context) (string, error) {
	check := *j
	check.DryRun = true
	r := &run{Job: &check, source: WatchedSource(j.Profile, j.Own)}
	var err error
	if r.memory, err = recall(r.Dir); err != nil {
		return "", err
	}
	r.engine = r.newEngine(&targetLock{})
	defer func() { _ = r.held.release() }()
	if err := r.meet(ctx); err != nil {
		return "", err
	}
	var found []string
	if t := j.Profile.Target; t.Local() && r.held.target == nil {
		in := filepath.Dir(t.Path)
		if _, err := os.Stat(in); err != nil {
			return "", &SkippedError{fmt.Errorf("the target is not there, nor is %s, in which the first run makes it: %w", in, err)}
		}
		r.engine.Target = in
		found = append(found, "the target is not there yet, the first run makes it in "+in)
	}
	if err := r.askTarget(ctx); err != nil {
		return "", err
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

// LastFull returns when the last full run of the profile with this directory took its list; the
// zero time if there was none.
func LastFull(dir string) (time.Time, error) {
	m, err := recall(dir)
	if err != nil {
		return time.Time{}, err
	}
	return m.LastFull, nil
}
