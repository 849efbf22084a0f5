package inotify

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"rsince/changes"
)

// memory is a Recorder that remembers everything.
type memory struct {
	mu    sync.Mutex
	kinds map[string]map[changes.Kind]bool
	gaps  []changes.Gap
}

func (m *memory) Record(path string, kind changes.Kind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kinds == nil {
		m.kinds = make(map[string]map[changes.Kind]bool)
	}
	if m.kinds[path] == nil {
		m.kinds[path] = make(map[changes.Kind]bool)
	}
	switch kind { // the newer word holds
	case changes.Content:
		delete(m.kinds[path], changes.Gone)
	case changes.Gone:
		delete(m.kinds[path], changes.Content)
	}
	m.kinds[path][kind] = true
}

func (m *memory) RecordRename(from, to string, dir bool) {
	was, is := changes.Gone, changes.Content
	if dir {
		was, is = changes.Subtree, changes.Subtree
	}
	m.Record(from, was)
	m.Record(to, is)
}

func (m *memory) RecordFile(changes.Handle) { panic("inotify knows no handles") }

func (m *memory) RecordGap(gap changes.Gap) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gaps = append(m.gaps, gap)
}

// take returns what was recorded since the last time.
func (m *memory) take() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := &memory{kinds: m.kinds, gaps: m.gaps}
	m.kinds, m.gaps = nil, nil
	return taken
}

// covers reports whether path was recorded, or something above it as a subtree or a gap.
func (m *memory) covers(path string) bool {
	if len(m.kinds[path]) > 0 {
		return true
	}
	for p := path; ; p = filepath.Dir(p) {
		if m.kinds[p][changes.Subtree] {
			return true
		}
		for _, gap := range m.gaps {
			if gap.Subtree == p {
				return true
			}
		}
		if p == "." {
			return false
		}
	}
}

// highest returns for every path the kind that says most.
func (m *memory) highest() map[string]changes.Kind {
	all := make(map[string]changes.Kind)
	for path, kinds := range m.kinds {
		for kind := range maps.Keys(kinds) {
			all[path] = max(all[path], kind)
		}
	}
	return all
}

// hold makes Record wait until release is called.
func (m *memory) hold() (release func()) {
	m.mu.Lock()
	return m.mu.Unlock
}

// begin watches source and returns a function that drains and takes what was recorded.
func begin(t *testing.T, source changes.Source) (drain func() *memory) {
	t.Helper()
	w, rec := start(t, source)
	return drainer(t, w, rec)
}

func drainer(t *testing.T, w *watch, rec *memory) (drain func() *memory) {
	return func() *memory {
		t.Helper()
		drainNow(t, w)
		return rec.take()
	}
}

func start(t *testing.T, source changes.Source) (*watch, *memory) {
	t.Helper()
	rec := new(memory)
	backend := &Backend{Cookies: filepath.Join(tempDir(t), "cookies")}
	w, err := backend.Watch(t.Context(), source, rec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w.(*watch), rec
}

func drainNow(t *testing.T, w changes.Watch) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

// tempDir is t.TempDir free of symlinks.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// until waits for ok to become true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func mkdir(t *testing.T, elem ...string) string {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t *testing.T, content string, elem ...string) string {
	t.Helper()
	path := filepath.Join(elem...)
	mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// do fails the test for the first error.
func do(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// probe fails the test unless every directory of the source is watched under the path it has now.
func probe(t *testing.T, dir string, drain func() *memory) {
	t.Helper()
	drain()
	var probes []string
	do(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		name := filepath.Join(path, "probe")
		rel, err := filepath.Rel(dir, name)
		probes = append(probes, rel)
		return errors.Join(err, os.WriteFile(name, nil, 0o600), os.Remove(name))
	}))
	got := drain()
	for _, path := range probes {
		if !got.kinds[path][changes.Gone] {
			t.Errorf("%q was not recorded: its directory is not watched, or not under that path", path)
		}
	}
	for path := range got.kinds {
		if !slices.Contains(probes, path) {
			t.Errorf("%q was recorded, and nothing happened there", path)
		}
	}
	if got.gaps != nil {
		t.Errorf("gaps: %v", got.gaps)
	}
}

// sameDirectories fails the test unless w, which is drained, knows the directories of dir and no more.
func sameDirectories(t *testing.T, dir string, w *watch) {
	t.Helper()
	count := 1 // of the cookies
	do(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			count++
		}
		return err
	}))
	if len(w.byKey) != count || len(w.byID) != count || len(w.unwatched) != 0 || len(w.fs.WatchList()) != count {
		t.Errorf("%d directories are known by key, %d by identity, %d watched by fsnotify, and there are %d; not watched: %v",
			len(w.byKey), len(w.byID), len(w.fs.WatchList()), count, w.unwatched)
	}
}
