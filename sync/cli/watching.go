package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"rsince/changes"
	rsincesync "rsince/sync"
	"rsince/sync/profile"
)

// watching is what the watcher that is running says of itself.
type watching struct {
	process  changes.Process
	profiles map[string]changes.Status
	err      error // why it says nothing; ErrNoWatcher: there is none
}

func (w *world) watcher(ctx context.Context) watching {
	var v watching
	if v.process, v.err = changes.Running(ctx, w.dirs.socket); v.err == nil {
		v.profiles, v.err = changes.Ask(ctx, w.dirs.socket)
	}
	return v
}

// errUnwanted says that a profile is not to be watched.
var errUnwanted = errors.New("the profile says so: every run reads the whole source")

// watches tells how p is being watched as it is now; the error says why it is not, and what to do.
func (v watching) watches(w *world, p *profile.Profile) (changes.Status, error) {
	s, known := v.profiles[p.Name]
	switch {
	case p.Watch.Backend == "none":
		return s, errUnwanted
	case errors.Is(v.err, changes.ErrNoWatcher):
		return s, &advised{v.err, w.commandLine("watch") + " & starts one"}
	case v.err != nil:
		return s, v.err
	case !known:
		err := fmt.Errorf("the watcher that is running (process %d) does not watch it", v.process.PID)
		return s, &advised{err, v.reread(w, p.Name)}
	case s.Failed != "":
		return s, errors.New("the watcher cannot watch it: " + oneLine(s.Failed))
	case !s.Source.Same(rsincesync.WatchedSource(p, w.dirs.own())) || p.Watch.Backend != "auto" && p.Watch.Backend != s.Backend:
		err := fmt.Errorf("the watcher (process %d) watches %s by another version of the profile", v.process.PID, quote(s.Source.Path))
		return s, &advised{err, v.reread(w, p.Name)}
	}
	return s, nil
}

// reread says how to have these profiles, or all, watched as they are now.
func (v watching) reread(w *world, names ...string) string {
	if v.takes(names) {
		return fmt.Sprintf("kill -HUP %d makes it read the profiles again", v.process.PID)
	}
	return fmt.Sprintf("it was started for %s only and reads no others: kill %d ends it, %s & watches all",
		strings.Join(v.process.Only, ", "), v.process.PID, w.commandLine("watch"))
}

// takes reports whether SIGHUP makes the watcher read these profiles, or all if there are no names.
func (v watching) takes(names []string) bool {
	only := v.process.Only
	missing := func(name string) bool { return !slices.Contains(only, name) }
	return len(only) == 0 || len(names) > 0 && !slices.ContainsFunc(names, missing)
}
