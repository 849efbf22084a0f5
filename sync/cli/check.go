package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rsince/changes"
	rsincesync "rsince/sync"
	"rsince/sync/profile"
)

func (w *world) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "check [PROFILE...]",
		Short:             "Tell whether everything that these profiles need is there and works",
		ValidArgsFunction: w.names,
		RunE:              func(c *cobra.Command, args []string) error { return w.check(c.Context(), args) },
	}
}

func (w *world) check(ctx context.Context, names []string) error {
	profiles, err := w.profiles(names)
	codes := []int{exitCode(err)}
	if err != nil {
		w.complain(err)
	}
	watcher := w.watcher(ctx)
	for _, p := range profiles {
		w.verdict(p, "profile", "valid", nil)
		watch, watchErr := w.checkWatch(ctx, p, watcher)
		w.verdict(p, "watch", watch, watchErr)
		job := &rsincesync.Job{Profile: p, Dir: w.dirs.profile(p.Name), Locks: w.dirs.locks(), Own: w.dirs.own()}
		copied, copyErr := job.Check(ctx)
		w.verdict(p, "copy", copied, copyErr)
		if watchErr != nil || copyErr != nil {
			codes = append(codes, exitFailed)
		}
	}
	if code := worst(codes...); code != exitDone {
		return &reported{code}
	}
	return w.stdout.err
}

// checkLine is a line of `rsince check --json`. Fields are added, never renamed.
type checkLine struct {
	Profile string `json:"profile"`
	Check   string `json:"check"` // profile, watch or copy
	OK      bool   `json:"ok"`
	Message string `json:"message"` // what was found, or what is amiss
}

// verdict prints a line of what was found, or of what is amiss and what to do about it.
func (w *world) verdict(p *profile.Profile, what, found string, amiss error) {
	if amiss != nil {
		found = strings.Join(lines(amiss), "; ")
	}
	switch {
	case w.json:
		_ = json.NewEncoder(w.stdout).Encode(checkLine{p.Name, what, amiss == nil, found})
	case amiss == nil:
		printLine(w.stdout, "ok      %s: %s: %s", p.Name, what, found)
	default:
		printLine(w.stdout, "not ok  %s: %s: %s", p.Name, what, found)
		if h := w.hint(&profileError{profile: p, err: amiss, checked: true}); h != "" {
			printLine(w.stdout, "        hint: %s", h)
		}
	}
}

// checkWatch asks the watcher that is running, or tries whether one could watch.
func (w *world) checkWatch(ctx context.Context, p *profile.Profile, watcher watching) (string, error) {
	s, err := watcher.watches(w, p)
	switch {
	case err == nil:
		return "watched by " + s.Backend, nil
	case errors.Is(err, errUnwanted):
		return "not wanted: every run reads the whole source", nil
	case !errors.Is(err, changes.ErrNoWatcher):
		return "", err
	}
	backend, refusals := w.couldWatch(ctx, p)
	if refusals != nil {
		return "", refusals
	}
	return "", fmt.Errorf("%w; %s could watch it", err, backend)
}

// couldWatch returns the backend that a watcher would take.
func (w *world) couldWatch(ctx context.Context, p *profile.Profile) (string, error) {
	backends, release := w.backends()
	var refusals error
	for _, b := range backends {
		if p.Watch.Backend != "auto" && p.Watch.Backend != b.Name() {
			continue
		}
		watch, err := b.Watch(ctx, rsincesync.WatchedSource(p, w.dirs.own()), deaf{})
		if err == nil {
			return b.Name(), errors.Join(watch.Close(), release())
		}
		refusals = errors.Join(refusals, fmt.Errorf("%s: %w", b.Name(), err))
	}
	return "", errors.Join(refusals, release())
}

// deaf is a Recorder for a watch of which nobody wants to hear.
type deaf struct{}

func (deaf) Record(string, changes.Kind)       {}
func (deaf) RecordRename(string, string, bool) {}
func (deaf) RecordFile(changes.Handle)         {}
func (deaf) RecordGap(changes.Gap)             {}
