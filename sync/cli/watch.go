package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/changes/fanotify"
	"rsince/changes/inotify"
	rsincesync "rsince/sync"
	"rsince/sync/profile"
)

func (w *world) watchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch [PROFILE...]",
		Short: "Note what changes in the sources of these profiles (default: all)",
		Long: `Watch notes what changes in the sources of these profiles (default: all) until it is
ended by SIGTERM or SIGINT. SIGHUP makes it read the profiles again.`,
		ValidArgsFunction: w.names,
		RunE:              func(c *cobra.Command, args []string) error { return w.watch(c.Context(), args) },
	}
}

// watchGC is the garbage collector's percentage for a watcher, which allocates little and lives long:
// on 71,169 directories it takes the inotify backend from 47 to 40 MB resident.
const watchGC = 50

func (w *world) watch(ctx context.Context, names []string) error {
	debug.SetGCPercent(watchGC)
	profiles, err := w.profiles(names)
	if err != nil {
		return err
	}
	watched := w.toWatch(profiles)
	if len(watched) == 0 {
		return &usageError{errors.New("none of these profiles is to be watched (watch.backend is none)")}
	}
	backends, release := w.backends()
	watcher := changes.Watcher{Backends: backends, Socket: w.dirs.socket, Report: w.report}
	reload, stop := w.reloads(ctx, names)
	err = watcher.Run(ctx, watched, reload, w.ready)
	stop()
	return errors.Join(err, release())
}

func (w *world) toWatch(profiles []*profile.Profile) []changes.Watched {
	var watched []changes.Watched
	for _, p := range profiles {
		if p.Watch.Backend == "none" {
			continue
		}
		watched = append(watched, changes.Watched{
			Name:    p.Name,
			Source:  rsincesync.WatchedSource(p, w.dirs.own()),
			Journal: rsincesync.Journal(w.dirs.profile(p.Name)),
			Backend: p.Watch.Backend,
		})
	}
	return watched
}

// backends returns all there are, the best first.
func (w *world) backends() (all []changes.Backend, release func() error) {
	byDirectory := &inotify.Backend{Cookies: w.dirs.cookies()}
	group, err := fanotify.Open()
	if err != nil {
		return []changes.Backend{unavailable{"fanotify", err}, byDirectory}, func() error { return nil }
	}
	return []changes.Backend{group, byDirectory}, group.Close
}

// unavailable is a backend that cannot be had on this machine or by this user.
type unavailable struct {
	name string
	err  error
}

func (u unavailable) Name() string { return u.name }

func (u unavailable) Watch(context.Context, changes.Source, changes.Recorder) (changes.Watch, error) {
	return nil, u.err
}

// reloads sends the profiles anew on each SIGHUP.
func (w *world) reloads(ctx context.Context, names []string) (reload <-chan []changes.Watched, stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, unix.SIGHUP)
	fresh := make(chan []changes.Watched)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range hangup {
			profiles, err := w.profiles(names)
			if err != nil {
				w.complain(fmt.Errorf("reading the profiles again; going on with the old ones: %w", err))
				continue
			}
			select {
			case fresh <- w.toWatch(profiles):
			case <-ctx.Done():
			}
		}
	}()
	return fresh, func() {
		signal.Stop(hangup)
		close(hangup)
		<-ended
	}
}

func (w *world) ready(name string, s changes.Status) {
	fmt.Fprintf(w.stdout, "watching %s (%s, since %s)\n", name, s.Backend, s.Since.Format(time.RFC3339))
	if s.BackendReason != "" {
		fmt.Fprintf(w.stderr, "rsince: %s: not watched by a better backend: %s\n", name, s.BackendReason)
	}
	// Without systemd there is nobody to tell, and nothing else to do about an error.
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
}

func (w *world) report(name, message string) {
	if name != "" {
		message = name + ": " + message
	}
	fmt.Fprintf(w.stderr, "rsince: %s\n", message)
}
