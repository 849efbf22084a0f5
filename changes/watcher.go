package changes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// A Watcher watches the sources of any number of profiles, keeps their journals, and answers on a
// socket. It runs once.
type Watcher struct {
	Backends []Backend // the best first
	Socket   string
	// Only are the names of the profiles that it is for, to tell those who ask; nil: for all there are.
	Only []string
	// Ready is called when, at the start, all profiles are watched that can be. nil: nothing.
	Ready func()
	// Report is called, from several goroutines, with what the person who runs the watcher should
	// read; profile is empty for what concerns none. nil: nothing.
	Report func(profile, message string)

	mu      sync.Mutex
	watched map[string]*watched
	told    map[string]string // by profile: why it could not be watched when last tried
}

const (
	beatEvery  = 5 * time.Second
	retryEvery = 10 * time.Second
)

// Run watches the profiles until ctx is done; each set of profiles that arrives on reload then
// takes the place of the one before, and those in both are watched without interruption. A profile
// that cannot be watched is reported and tried again from time to time; if no profile can be
// watched at the start, Run returns why. ready is called for each profile as its watch begins.
func (w *Watcher) Run(ctx context.Context, profiles []Watched, reload <-chan []Watched, ready func(profile string, s Status)) error {
	s, err := listen(w.Socket)
	if err != nil {
		return err
	}
	w.watched = map[string]*watched{}
	var serving sync.WaitGroup
	serving.Go(func() { s.serve(ctx, w.answer) })
	if failed := w.startAll(ctx, profiles, ready); len(w.all()) > 0 || ctx.Err() != nil {
		w.tell(failed)
		if w.Ready != nil {
			w.Ready()
		}
		w.loop(ctx, profiles, reload, ready)
	} else {
		err = refusal(failed)
	}
	// Whoever finds the socket closed cuts by himself as soon as the journals are.
	err = errors.Join(err, s.Close())
	serving.Wait()
	err = errors.Join(err, w.stopAll())
	return errors.Join(err, s.unlock())
}

func (w *Watcher) loop(ctx context.Context, profiles []Watched, reload <-chan []Watched, ready func(string, Status)) {
	beat, retry := time.NewTicker(beatEvery), time.NewTicker(retryEvery)
	defer beat.Stop()
	defer retry.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-beat.C:
			w.beat(ctx)
		case <-retry.C:
			w.tell(w.startAll(ctx, profiles, ready))
		case profiles = <-reload:
			w.stopOthers(profiles)
			w.tell(w.startAll(ctx, profiles, ready))
		}
	}
}

// startAll begins to watch those of the profiles that are not being watched. It returns why some
// cannot be, by profile.
func (w *Watcher) startAll(ctx context.Context, profiles []Watched, ready func(string, Status)) map[string]error {
	failed := map[string]error{}
	for _, p := range profiles {
		if w.find(p.Name) != nil || ctx.Err() != nil {
			continue
		}
		started, err := start(ctx, p, w.Backends, func(text string) { w.say(p.Name, text) })
		if err != nil {
			failed[p.Name] = err
			continue
		}
		w.mu.Lock()
		w.watched[p.Name] = started
		w.mu.Unlock()
		ready(p.Name, started.Status())
	}
	return failed
}

// tell reports of the profiles that cannot be watched what it did not report the last time.
func (w *Watcher) tell(failed map[string]error) {
	told := map[string]string{}
	for profile, err := range failed {
		told[profile] = err.Error()
		if w.told[profile] != told[profile] {
			w.say(profile, "not watched: "+told[profile])
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = told
}

// refusal is why nothing can be watched.
func refusal(failed map[string]error) error {
	var errs []error
	for _, profile := range slices.Sorted(maps.Keys(failed)) {
		errs = append(errs, fmt.Errorf("watching %s: %w", profile, failed[profile]))
	}
	return errors.Join(errs...)
}

// stopOthers ends the watch of every profile that is not among these as it is.
func (w *Watcher) stopOthers(profiles []Watched) {
	for _, p := range w.all() {
		if slices.ContainsFunc(profiles, p.profile.same) {
			continue
		}
		w.mu.Lock()
		delete(w.watched, p.profile.Name)
		w.mu.Unlock()
		if err := p.stop(); err != nil {
			p.report(err.Error())
		}
	}
}

// stopAll ends all watches side by side, since each may wait for its backend.
func (w *Watcher) stopAll() error {
	all := w.all()
	errs := make([]error, len(all))
	var stopping sync.WaitGroup
	for i, p := range all {
		stopping.Go(func() { errs[i] = p.stop() })
	}
	stopping.Wait()
	return errors.Join(errs...)
}

func (w *Watcher) beat(ctx context.Context) {
	for _, p := range w.all() {
		if err := p.beat(ctx); ctx.Err() == nil {
			p.complain(err)
		}
	}
}

// answer serves a request that came over the socket.
func (w *Watcher) answer(ctx context.Context, req request) reply {
	switch req.Op {
	case "status":
		return reply{Profiles: w.statuses()}
	case "process":
		return reply{Process: Process{PID: os.Getpid(), Only: w.Only}}
	}
	if p := w.find(req.Profile); p != nil {
		return p.answer(ctx, req)
	}
	return reply{Unwatched: true}
}

func (w *Watcher) statuses() map[string]Status {
	all := map[string]Status{}
	for _, p := range w.all() {
		all[p.profile.Name] = p.Status()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for profile, why := range w.told {
		if _, watched := all[profile]; !watched {
			all[profile] = Status{Failed: why}
		}
	}
	return all
}

func (w *Watcher) find(name string) *watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.watched[name]
}

func (w *Watcher) all() []*watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.watched))
}

func (w *Watcher) say(profile, text string) {
	if w.Report != nil {
		w.Report(profile, text)
	}
}
