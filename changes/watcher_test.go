package changes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeBackend has a queue for each source, as the kernel has: what happens there is told when the
// watch is drained.
type fakeBackend struct {
	name string

	mu      sync.Mutex
	refusal error
	enter   chan struct{} // if set, Watch waits for it to be closed
	watches map[string]*fakeWatch
}

type fakeWatch struct {
	rec     Recorder
	telling sync.WaitGroup

	mu     sync.Mutex
	queue  []string
	broken error
	closed bool
}

func (b *fakeBackend) Name() string { return b.name }

func (b *fakeBackend) Watch(ctx context.Context, source Source, rec Recorder) (Watch, error) {
	b.mu.Lock()
	enter := b.enter
	b.mu.Unlock()
	if enter != nil {
		<-enter
	}
	if _, err := os.Stat(source.Path); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refusal != nil {
		return nil, b.refusal
	}
	w := &fakeWatch{rec: rec}
	if b.watches == nil {
		b.watches = map[string]*fakeWatch{}
	}
	b.watches[source.Path] = w
	w.telling.Go(func() { rec.RecordGap(Gap{Reason: "looking around", Subtree: "."}) }) // while Watch returns
	return w, nil
}

func (b *fakeBackend) at(source string) *fakeWatch {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.watches[source]
}

func (b *fakeBackend) happen(source string, paths ...string) {
	w := b.at(source)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, paths...)
}

func (w *fakeWatch) Drain(context.Context) error {
	w.telling.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, path := range w.queue {
		w.rec.Record(path, Content)
	}
	w.queue = nil
	return w.broken
}

func (w *fakeWatch) Close() error {
	w.telling.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	return nil
}

// running is a Watcher that runs.
type running struct {
	backend *fakeBackend
	socket  string
	home    string // of journals and sources
	reload  chan []Watched
	ready   chan string
	stop    func() error

	mu      sync.Mutex
	reports []string
}

func (r *running) report(profile, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports = append(r.reports, profile+": "+message)
}

func (r *running) reported(text string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, message := range r.reports {
		if strings.Contains(message, text) {
			n++
		}
	}
	return n
}

// watched makes a profile with a source that exists.
func (r *running) watched(t *testing.T, name string) Watched {
	t.Helper()
	p := Watched{Name: name, Source: Source{Path: filepath.Join(r.home, "source", name)}, Journal: r.journal(name), Backend: "auto"}
	do(t, os.MkdirAll(p.Source.Path, 0o700))
	return p
}

func (r *running) journal(name string) string { return filepath.Join(r.home, "journal", name) }

func (r *running) source(name string) string { return filepath.Join(r.home, "source", name) }

func (r *running) cut(t *testing.T, name string) *Batch {
	t.Helper()
	b, err := Cut(t.Context(), r.socket, r.journal(name), name)
	do(t, err)
	return b
}

func newRunning(t *testing.T) *running {
	home := t.TempDir()
	return &running{
		backend: &fakeBackend{name: "fake"}, socket: filepath.Join(home, "watch.sock"), home: home,
		reload: make(chan []Watched), ready: make(chan string, 100),
	}
}

// run starts the watcher, by itself or with better backends before it.
func (r *running) run(t *testing.T, profiles []Watched, better ...Backend) {
	t.Helper()
	w := &Watcher{Backends: append(better, r.backend), Socket: r.socket, Report: r.report}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- w.Run(ctx, profiles, r.reload, func(name string, s Status) { r.ready <- name })
	}()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { r.stop() })
}

func (r *running) waitReady(t *testing.T, names ...string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for range names {
		select {
		case name := <-r.ready:
			if !slices.Contains(names, name) {
				t.Fatalf("%s is ready, want %v", name, names)
			}
		case <-deadline:
			t.Fatalf("%v not ready; %q", names, r.reports)
		}
	}
}

func startRunning(t *testing.T, names ...string) *running {
	t.Helper()
	r := newRunning(t)
	var profiles []Watched
	for _, name := range names {
		profiles = append(profiles, r.watched(t, name))
	}
	r.run(t, profiles)
	r.waitReady(t, names...)
	return r
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for: " + what)
		}
	}
}

func TestWatcherCut(t *testing.T) {
	r := startRunning(t, "home")
	r.backend.happen(r.source("home"), "a", "b\n\xff")
	before := time.Now()
	b := r.cut(t, "home")
	if !slices.Equal(pathsOf(b.Changes), []string{"a", "b\n\xff"}) || b.Cut.Before(before) || b.Cut.After(time.Now()) {
		t.Errorf("batch %+v", b)
	}
	if b.Watch.Backend != "fake" || b.Watch.PID != os.Getpid() || b.Watch.Source.Path != r.source("home") || b.Watch.BackendReason != "" {
		t.Errorf("watched by %+v", b.Watch)
	}
	if !slices.ContainsFunc(b.Gaps, func(g Gap) bool { return g.Since.IsZero() && g.Subtree == "." && strings.Contains(g.Reason, "never") }) {
		t.Errorf("gaps of a first watch: %+v", b.Gaps)
	}
	do(t, b.Acknowledge(nil))
	if b := r.cut(t, "home"); len(b.Changes)+len(b.Gaps) > 0 || b.ID != "" {
		t.Errorf("second batch %+v", b)
	}
	r.backend.happen(r.source("home"), "c")
	do(t, Settle(t.Context(), r.socket, "home"))
	if got := pendingPaths(t, r.journal("home")); !slices.Equal(got, []string{"c"}) {
		t.Errorf("pending %q after settling", got)
	}
	all, err := Ask(t.Context(), r.socket)
	if err != nil || len(all) != 1 || all["home"].Backend != "fake" {
		t.Errorf("status %+v, %v", all, err)
	}
	r.backend.happen(r.source("home"), "d")
	do(t, r.stop())
	if got := pendingPaths(t, r.journal("home")); !slices.Equal(got, []string{"c", "d"}) {
		t.Errorf("pending %q after the end", got)
	}
	if !r.backend.at(r.source("home")).closed || KnownUntil(r.journal("home")).Before(before) {
		t.Error("the watch was not ended properly")
	}
}

func TestWatcherGapIsDurableBeforeReady(t *testing.T) {
	r := newRunning(t)
	p := r.watched(t, "home")
	known := time.Now().Add(-time.Hour).Truncate(0)
	do(t, os.MkdirAll(p.Journal, 0o700))
	do(t, setKnownUntil(p.Journal, known))
	w := &Watcher{Backends: []Backend{r.backend}, Socket: r.socket}
	ctx, cancel := context.WithCancel(t.Context())
	err := w.Run(ctx, []Watched{p}, nil, func(string, Status) {
		defer cancel()
		_, gaps, err := Pending(p.Journal)
		if err != nil || !slices.ContainsFunc(gaps, func(g Gap) bool { return g.Since.Equal(known) && g.Subtree == "." }) {
			t.Errorf("gaps %+v, %v", gaps, err)
		}
	})
	do(t, err)
}

func TestWatcherTakesWhatWorks(t *testing.T) {
	r := newRunning(t)
	best := &fakeBackend{name: "best", refusal: errors.New("no privilege")}
	auto, set, unknown := r.watched(t, "auto"), r.watched(t, "set"), r.watched(t, "unknown")
	set.Backend, unknown.Backend = "best", "other"
	r.run(t, []Watched{auto, set, unknown}, best)
	r.waitReady(t, "auto")
	s := r.cut(t, "auto").Watch
	if s.Backend != "fake" || !strings.Contains(s.BackendReason, "best: no privilege") {
		t.Errorf("status %+v", s)
	}
	until(t, "reports", func() bool {
		return r.reported("set: not watched: best: no privilege") == 1 && r.reported(`no backend "other"`) == 1
	})
}

func TestWatcherWithNothingToWatch(t *testing.T) {
	r := newRunning(t)
	p := r.watched(t, "home")
	do(t, os.Remove(p.Source.Path))
	w := &Watcher{Backends: []Backend{r.backend}, Socket: r.socket}
	if err := w.Run(t.Context(), []Watched{p}, nil, nil); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "watching home") {
		t.Errorf("run: %v", err)
	}
	if _, err := Ask(t.Context(), r.socket); !errors.Is(err, ErrNoWatcher) {
		t.Errorf("after it: %v", err)
	}
}

func TestWatcherRetries(t *testing.T) {
	t.Parallel()
	r := newRunning(t)
	home, away := r.watched(t, "home"), r.watched(t, "away")
	do(t, os.Remove(away.Source.Path))
	r.run(t, []Watched{home, away})
	r.waitReady(t, "home")
	until(t, "a report", func() bool { return r.reported("away: not watched") == 1 })
	if b, err := Cut(t.Context(), r.socket, away.Journal, "away"); err != nil || b.Watch.Backend != "" || len(b.Gaps) != 1 {
		t.Errorf("cut of what is not watched: %+v, %v", b, err)
	}
	do(t, os.Mkdir(away.Source.Path, 0o700))
	r.waitReady(t, "away")
	if n := r.reported("away: not watched"); n != 1 {
		t.Errorf("reported %d times", n)
	}
}

func TestWatcherBeats(t *testing.T) {
	t.Parallel()
	r := startRunning(t, "home")
	start := time.Now()
	until(t, "a heartbeat", func() bool { return KnownUntil(r.journal("home")).After(start) })
	w := r.backend.at(r.source("home"))
	w.mu.Lock()
	w.broken = errors.New("the queue broke")
	w.mu.Unlock()
	until(t, "a report", func() bool { return r.reported("the queue broke") > 0 })
	known := KnownUntil(r.journal("home"))
	b := r.cut(t, "home")
	if !slices.ContainsFunc(b.Gaps, func(g Gap) bool { return strings.Contains(g.Reason, "the queue broke") && g.Since.Equal(known) }) {
		t.Errorf("gaps %+v, known until %v", b.Gaps, known)
	}
}

func TestWatcherReportsAGapOnce(t *testing.T) {
	r := startRunning(t, "home")
	w := r.backend.at(r.source("home"))
	before := r.cut(t, "home").Watch.Since
	for range 5 {
		w.rec.RecordGap(Gap{Reason: "overflow", Subtree: "."})
		w.rec.RecordGap(Gap{Reason: "mounted", Subtree: "m"})
	}
	if r.reported("overflow") != 1 || r.reported("mounted") != 1 {
		t.Errorf("reports %q", r.reports)
	}
	if b := r.cut(t, "home"); !b.Watch.Since.After(before) || len(b.Gaps) != 4 {
		t.Errorf("since %v, gaps %+v", b.Watch.Since, b.Gaps)
	}
}

func TestWatcherReportsALotInOneLine(t *testing.T) {
	r := startRunning(t, "home")
	w := r.backend.at(r.source("home"))
	do(t, r.cut(t, "home").Acknowledge(nil))
	for round := range 3 {
		for i, subtree := range []string{"a", "b", "c"} {
			w.rec.RecordGap(Gap{Reason: "no watches", Subtree: subtree, Others: 2, Told: round+i > 0})
		}
		b := r.cut(t, "home")
		if len(b.Gaps) != 3 {
			t.Errorf("round %d: gaps %+v", round, b.Gaps)
		}
		do(t, b.Acknowledge(nil))
	}
	if r.reported("no watches") != 1 || r.reported(`home: changes in "a" and 2 other directories may have been missed: no watches`) != 1 {
		t.Errorf("reports %q", r.reports)
	}
}

func TestTogether(t *testing.T) {
	got := Together([]Gap{
		{Reason: "down", Subtree: "."}, {Reason: "no watches", Subtree: "a"}, {Reason: "mounted", Subtree: "m"},
		{Reason: "no watches", Subtree: "b"}, {Reason: "no watches", Subtree: "."}, {Reason: "no watches", Subtree: "c\n"},
		{Reason: "mounted", Subtree: "n"},
	})
	var texts []string
	for _, g := range got {
		texts = append(texts, g.Brief())
	}
	want := []string{"down", `in "a" and 2 other directories: no watches`, `in "m" and 1 other directory: mounted`, "no watches"}
	if !slices.Equal(texts, want) {
		t.Errorf("got %q, want %q", texts, want)
	}
}

func TestWatcherReload(t *testing.T) {
	r := startRunning(t, "same", "changed", "removed")
	for _, name := range []string{"same", "changed", "removed"} {
		do(t, r.cut(t, name).Acknowledge(nil))
	}
	r.backend.happen(r.source("removed"), "last")
	same, removed := r.backend.at(r.source("same")), r.backend.at(r.source("removed"))
	changed := r.watched(t, "changed")
	changed.Source.Skip = []string{"/target"}
	r.reload <- []Watched{r.watched(t, "same"), changed, r.watched(t, "new")}
	r.waitReady(t, "changed", "new")
	if r.backend.at(r.source("same")) != same || len(r.cut(t, "same").Gaps) > 0 {
		t.Error("the unchanged profile was interrupted")
	}
	if b := r.cut(t, "changed"); len(b.Gaps) == 0 || !slices.Equal(b.Watch.Source.Skip, []string{"/target"}) {
		t.Errorf("the changed profile: %+v", b)
	}
	if !removed.closed {
		t.Error("the removed profile is still watched")
	}
	b := r.cut(t, "removed")
	if b.Watch.Backend != "" || !slices.Equal(pathsOf(b.Changes), []string{"last"}) || len(b.Gaps) != 1 {
		t.Errorf("the removed profile: %+v", b)
	}
	if all, err := Ask(t.Context(), r.socket); err != nil || len(all) != 3 {
		t.Errorf("status %v, %v", all, err)
	}
}

// TestWatcherStopsWhileAnswering takes a profile away and gives it back while it is being cut: each
// cut succeeds, by the watcher or without, and nothing that happened is lost.
func TestWatcherStopsWhileAnswering(t *testing.T) {
	t.Parallel()
	r := startRunning(t, "home", "other")
	home, other := r.watched(t, "home"), r.watched(t, "other")
	seen := map[string]bool{}
	ctx, cancel := context.WithCancel(t.Context())
	var cutting sync.WaitGroup
	cutting.Go(func() {
		for ctx.Err() == nil {
			b, err := Cut(t.Context(), r.socket, home.Journal, "home")
			if err != nil {
				t.Error(err)
				return
			}
			for _, c := range b.Changes {
				seen[c.Path] = true
			}
			if err := b.Acknowledge(nil); err != nil {
				t.Error(err)
			}
			if _, err := Ask(t.Context(), r.socket); err != nil {
				t.Error(err)
			}
		}
	})
	const rounds = 30
	for i := range rounds {
		r.backend.happen(home.Source.Path, fmt.Sprint(i))
		r.reload <- []Watched{other}
		r.reload <- []Watched{other, home}
		r.waitReady(t, "home")
	}
	cancel()
	cutting.Wait()
	do(t, r.stop())
	for _, path := range pendingAnyway(t, home.Journal) {
		seen[path] = true
	}
	for i := range rounds {
		if !seen[fmt.Sprint(i)] {
			t.Errorf("%d was lost", i)
		}
	}
}

func pendingAnyway(t *testing.T, dir string) []string {
	t.Helper()
	changes, _, err := Pending(dir)
	do(t, err)
	return pathsOf(changes)
}

func TestCutWaitsForAWatcherThatStarts(t *testing.T) {
	r := newRunning(t)
	r.backend.enter = make(chan struct{})
	r.run(t, []Watched{r.watched(t, "home")})
	until(t, "the watcher to hold the journal", func() bool {
		j, err := Open(r.journal("home"))
		if err == nil {
			do(t, j.Close())
		}
		return errors.Is(err, ErrBusy)
	})
	time.AfterFunc(100*time.Millisecond, func() { close(r.backend.enter) })
	if b := r.cut(t, "home"); b.Watch.Backend != "fake" {
		t.Errorf("cut without the watcher: %+v", b)
	}
}

func TestCutGivesUpOnAForeignWriter(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Cut(ctx, filepath.Join(dir, "no.sock"), dir, "p"); !errors.Is(err, ErrBusy) {
		t.Errorf("cut: %v", err)
	}
}

// A watcher that is stopped keeps its socket: nobody takes its journal for unwatched.
func TestCutGivesUpOnASilentWatcher(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "sock")
	listener, err := net.Listen("unix", socket)
	do(t, err)
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Cut(ctx, socket, dir, "p"); !errors.Is(err, ErrSilent) {
		t.Errorf("cut: %v", err)
	}
	if err := Settle(ctx, socket, "p"); !errors.Is(err, ErrSilent) {
		t.Errorf("settle: %v", err)
	}
}

// TestWatcherEndsBeforeAcknowledgement: the run that has the batch ends as if nothing was, and what
// happened meanwhile is for the next one.
func TestWatcherEndsBeforeAcknowledgement(t *testing.T) {
	r := startRunning(t, "home")
	r.backend.happen(r.source("home"), "a", "bad")
	b := r.cut(t, "home")
	r.backend.happen(r.source("home"), "b")
	do(t, r.stop())
	known := KnownUntil(r.journal("home"))
	carry := b.Changes[1:]
	carry[0].Attempts = 1
	do(t, b.Acknowledge(carry))
	next := r.cut(t, "home")
	if !slices.Equal(pathsOf(next.Changes), []string{"b", "bad"}) || next.Watch.Backend != "" {
		t.Errorf("next batch %+v", next)
	}
	if len(next.Gaps) != 1 || !next.Gaps[0].Since.Equal(known) {
		t.Errorf("gaps %+v, known until %v", next.Gaps, known)
	}
}
