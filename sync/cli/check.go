package cli

import (
	"context"
	"errors"
	"fmt"

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
	for _, p := range profiles {
		w.verdict(p, "profile", "valid", nil)
		watch, watchErr := w.checkWatch(ctx, p)
		w.verdict(p, "watch", watch, watchErr)
		job := &rsincesync.Job{Profile: p, Dir: w.dirs.profile(p.Name), Own: w.dirs.own()}
		copied, copyErr := job.Check(ctx)
		w.verdict(p, "copy", copied, copyErr)
		if watchErr != nil || copyErr != nil {
			codes = append(codes, exitFailed)
		}
	}
	if code := worst(codes...); code != exitDone {
		return &reported{code}
	}
	return nil
}

// verdict prints a line of what was found, or of what is amiss and what to do about it.
func (w *world) verdict(p *profile.Profile, what, found string, amiss error) {
	if amiss == nil {
		fmt.Fprintf(w.stdout, "ok      %s: %s: %s\n", p.Name, what, found)
		return
	}
	fmt.Fprintf(w.stdout, "not ok  %s: %s: %s\n", p.Name, what, amiss)
	if h := hint(forProfile(amiss, p.Name)); h != "" {
		fmt.Fprintf(w.stdout, "        hint: %s\n", h)
	}
}

// checkWatch asks the watcher that is running, or tries whether one could watch.
func (w *world) checkWatch(ctx context.Context, p *profile.Profile) (string, error) {
	if p.Watch.Backend == "none" {
		return "not wanted: every run compares everything", nil
	}
	watched, err := changes.Ask(ctx, w.dirs.socket)
	if err != nil && !errors.Is(err, changes.ErrNoWatcher) {
		return "", err
	}
	if s, ok := watched[p.Name]; ok {
		return "watched by " + s.Backend, nil
	}
	backends, release := w.backends()
	var refusals error
	for _, b := range backends {
		if p.Watch.Backend != "auto" && p.Watch.Backend != b.Name() {
			continue
		}
		watch, err := b.Watch(ctx, rsincesync.WatchedSource(p, w.dirs.own()), deaf{})
		if err == nil {
			return fmt.Sprintf("could be watched by %s; no watcher is running", b.Name()), errors.Join(watch.Close(), release())
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
