package inotify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"rsince/changes"
)

func TestCookies(t *testing.T) {
	dir := tempDir(t)
	w, rec := start(t, changes.Source{Path: dir})
	drainNow(t, w)

	t.Run("many at once", func(t *testing.T) {
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				for range 20 {
					if err := w.Drain(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	})
	t.Run("none is left", func(t *testing.T) {
		left, err := os.ReadDir(w.cookies.dir)
		if err != nil || len(left) != 0 {
			t.Errorf("%v, %v", left, err)
		}
	})
	t.Run("directory removed", func(t *testing.T) {
		do(t, os.RemoveAll(w.cookies.dir))
		drainNow(t, w)
		drainNow(t, w)
	})
	t.Run("directory moved", func(t *testing.T) {
		do(t, os.Rename(w.cookies.dir, w.cookies.dir+"-old"))
		drainNow(t, w)
		do(t, os.Rename(w.cookies.dir, w.cookies.dir+"-old2"), os.Rename(w.cookies.dir+"-old", w.cookies.dir))
		drainNow(t, w)
	})
	t.Run("directory replaced by a file", func(t *testing.T) {
		do(t, os.RemoveAll(w.cookies.dir))
		write(t, "", w.cookies.dir) // no drain is waiting, so nobody makes the directory again
		if err := w.Drain(t.Context()); err == nil {
			t.Error("drained without a cookie")
		}
		do(t, os.Remove(w.cookies.dir))
		drainNow(t, w)
	})
	write(t, "", dir, "f")
	drainNow(t, w)
	if got := rec.take(); len(got.kinds) != 1 || !got.covers("f") || got.gaps != nil {
		t.Errorf("recorded %v, gaps %v", got.highest(), got.gaps)
	}
}

func TestCookiesInTheSource(t *testing.T) {
	dir := tempDir(t)
	rec := new(memory)
	backend := &Backend{Cookies: filepath.Join(dir, "state")}
	w, err := backend.Watch(t.Context(), changes.Source{Path: dir}, rec)
	do(t, err)
	defer func() { do(t, w.Close()) }()
	drainNow(t, w)
	drainNow(t, w)
	if got := rec.take(); got.kinds != nil || got.gaps != nil {
		t.Errorf("recorded %v, gaps %v", got.highest(), got.gaps)
	}
}

func TestCookiesShared(t *testing.T) {
	backend := &Backend{Cookies: tempDir(t)}
	write(t, "", backend.Cookies, cookiePrefix+"left")
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			dir, rec := tempDir(t), new(memory)
			w, err := backend.Watch(t.Context(), changes.Source{Path: dir}, rec)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 100 {
				path := fmt.Sprint("f", i)
				if err := errors.Join(os.WriteFile(filepath.Join(dir, path), nil, 0o600), w.Drain(t.Context())); err != nil {
					t.Error(err)
				}
				if got := rec.take(); !got.covers(path) {
					t.Errorf("%s was not yet recorded after Drain", path)
				}
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if left, err := os.ReadDir(backend.Cookies); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestCookiesAsSource(t *testing.T) {
	dir := tempDir(t)
	if _, err := (&Backend{Cookies: dir}).Watch(t.Context(), changes.Source{Path: dir}, new(memory)); err == nil {
		t.Error("the directory of cookies can be watched as a source")
	}
}

func TestWithoutCookies(t *testing.T) {
	dir := tempDir(t)
	file := write(t, "", dir, "file")
	_, err := (&Backend{Cookies: filepath.Join(file, "cookies")}).Watch(t.Context(), changes.Source{Path: dir}, new(memory))
	if err == nil {
		t.Error("watched without a directory for cookies")
	}
}

func TestClose(t *testing.T) {
	open := func() int {
		fds, err := os.ReadDir(descriptors)
		do(t, err)
		return len(fds)
	}
	before := open()
	dir := tempDir(t)
	mkdir(t, dir, "a/b")
	rec := new(memory)
	w, err := (&Backend{Cookies: tempDir(t)}).Watch(t.Context(), changes.Source{Path: dir}, rec)
	do(t, err)
	do(t, os.Chmod(dir, 0o700))
	do(t, w.Close())
	rec.take()
	write(t, "", dir, "a/f")
	if err := w.Drain(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("drained a closed watch: %v", err)
	}
	do(t, w.Close())
	if got := rec.take(); got.kinds != nil || got.gaps != nil {
		t.Errorf("recorded after Close: %v", got.highest())
	}
	if after := open(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func TestContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := tempDir(t)
	if _, err := (&Backend{Cookies: tempDir(t)}).Watch(ctx, changes.Source{Path: dir}, new(memory)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w, _ := start(t, changes.Source{Path: dir})
	if err := w.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
