package inotify

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

func TestSourceLost(t *testing.T) {
	tests := []struct {
		name string
		lose func(t *testing.T, dir string)
	}{
		{"renamed", func(t *testing.T, dir string) { do(t, os.Rename(dir, dir+"-old")) }},
		{"its parent renamed", func(t *testing.T, dir string) {
			do(t, os.Rename(filepath.Dir(dir), filepath.Dir(dir)+"-old"), os.Mkdir(filepath.Dir(dir), 0o755))
		}},
		{"removed", func(t *testing.T, dir string) { do(t, os.RemoveAll(dir)) }},
		{"a symlink takes the place", func(t *testing.T, dir string) {
			do(t, os.Rename(dir, dir+"-old"), os.Symlink(dir+"-old", dir))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := mkdir(t, tempDir(t), "parent", "source")
			write(t, "", dir, "d/f")
			w, rec := start(t, changes.Source{Path: dir})
			test.lose(t, dir)
			drainNow(t, w)
			if gaps := rec.take().gaps; len(gaps) != 1 || gaps[0].Subtree != "." || gaps[0].Since.IsZero() {
				t.Fatalf("gaps: %v, want one of everything", gaps)
			}
			drainNow(t, w)
			if gaps := rec.take().gaps; gaps != nil {
				t.Fatalf("the same loss was told again: %v", gaps)
			}
			os.Remove(dir) // the symlink
			mkdir(t, dir, "new")
			until(t, "the source is watched again", func() bool {
				gaps := rec.take().gaps
				return len(gaps) == 1 && gaps[0].Subtree == "."
			})
			probe(t, dir, drainer(t, w, rec))
			sameDirectories(t, dir, w)
		})
	}
}

func TestSourceReplaced(t *testing.T) {
	for _, back := range []bool{false, true} {
		dir := mkdir(t, tempDir(t), "source")
		mkdir(t, dir, "d")
		drain := begin(t, changes.Source{Path: dir})
		do(t, os.Rename(dir, dir+"-old"))
		if back {
			do(t, os.Rename(dir+"-old", dir))
		} else {
			mkdir(t, dir, "new")
		}
		if got := drain(); len(got.gaps) == 0 || got.gaps[0].Subtree != "." {
			t.Fatalf("gaps: %v", got.gaps)
		}
		probe(t, dir, drain)
	}
}

func TestSourceThatCannotBeWatched(t *testing.T) {
	dir := tempDir(t)
	write(t, "", dir, "file")
	do(t, os.Symlink(".", filepath.Join(dir, "link")))
	for _, name := range []string{"absent", "file", "link"} {
		w, err := (&Backend{Cookies: tempDir(t)}).Watch(t.Context(), changes.Source{Path: filepath.Join(dir, name)}, new(memory))
		if err == nil {
			w.Close()
			t.Errorf("%s can be watched", name)
		} else if !strings.Contains(err.Error(), filepath.Join(dir, name)) {
			t.Errorf("%v does not say what it is about", err)
		}
	}
}

func TestUnreadable(t *testing.T) {
	if os.Getuid() == 0 {
		again(t, "TestUnreadable", &syscall.SysProcAttr{Credential: nobody}) // root may read everything
		return
	}
	dir := tempDir(t)
	secret := mkdir(t, dir, "secret")
	mkdir(t, secret, "below")
	locked := mkdir(t, secret, "locked")
	noX := mkdir(t, dir, "no-search")
	mkdir(t, noX, "below")
	do(t, os.Chmod(locked, 0), os.Chmod(secret, 0), os.Chmod(noX, 0o600))
	t.Cleanup(func() { do(t, os.Chmod(secret, 0o700), os.Chmod(noX, 0o700)) })
	w, rec := start(t, changes.Source{Path: dir})
	got := rec.take()
	if len(got.kinds) != 2 || !got.kinds["secret"][changes.Subtree] || !got.kinds["no-search/below"][changes.Subtree] {
		t.Errorf("recorded %v", got.highest())
	}
	drain := drainer(t, w, rec)
	if got := drain(); got.kinds != nil || got.gaps != nil {
		t.Errorf("recorded again: %v, %v", got.highest(), got.gaps)
	}
	do(t, os.Chmod(secret, 0o700), os.Chmod(noX, 0o700))
	got = drain()
	if !got.kinds["secret"][changes.Subtree] || !got.kinds["no-search"][changes.Subtree] || got.gaps != nil {
		t.Errorf("recorded %v, gaps %v", got.highest(), got.gaps)
	}
	if _, err := (&Backend{Cookies: tempDir(t)}).Watch(t.Context(), changes.Source{Path: secret + "/locked"}, new(memory)); !errors.Is(err, unix.EACCES) {
		t.Errorf("watching what may not be read: %v", err)
	}
	do(t, os.Chmod(locked, 0o700))
	probe(t, dir, drain)
	do(t, os.Mkdir(filepath.Join(dir, "later"), 0))
	t.Cleanup(func() { do(t, os.Chmod(filepath.Join(dir, "later"), 0o700)) })
	if got := drain(); !got.kinds["later"][changes.Subtree] || got.gaps != nil {
		t.Errorf("recorded %v, gaps %v", got.highest(), got.gaps)
	}
}

func TestMounts(t *testing.T) {
	for _, one := range []bool{true, false} {
		dir := tempDir(t)
		point := mkdir(t, dir, "m")
		write(t, "", point, "hidden/f")
		mount(t, "tmpfs", mkdir(t, dir, "before"), "tmpfs", 0)
		mkdir(t, dir, "before/d")
		drain := begin(t, changes.Source{Path: dir, OneFileSystem: one})
		write(t, "", dir, "before/d/f")
		if got := drain(); got.covers("before/d/f") == one {
			t.Errorf("one file system %v: recorded %v", one, got.highest())
		}

		mount(t, "tmpfs", point, "tmpfs", 0)
		got := drain()
		if len(got.gaps) != 1 || got.gaps[0].Subtree != "m" || got.kinds["m"][changes.Subtree] == one {
			t.Errorf("one file system %v, mounted: gaps %v, recorded %v", one, got.gaps, got.highest())
		}
		write(t, "", point, "d/f")
		do(t, os.Chmod(point, 0o700))
		if got := drain(); got.covers("m/d/f") == one || got.covers("m") == one {
			t.Errorf("one file system %v, written: recorded %v", one, got.highest())
		}

		do(t, unix.Unmount(point, 0))
		got = drain()
		if len(got.gaps) != 1 || got.gaps[0].Subtree != "m" || !got.kinds["m"][changes.Subtree] {
			t.Errorf("one file system %v, unmounted: gaps %v, recorded %v", one, got.gaps, got.highest())
		}
		write(t, "", point, "hidden/g")
		if got := drain(); !got.kinds["m/hidden/g"][changes.Content] {
			t.Errorf("one file system %v: recorded %v", one, got.highest())
		}
		do(t, unix.Unmount(filepath.Join(dir, "before"), 0))
		drain()
		probe(t, dir, drain)
	}
}

func TestMountsAreNoticedWithoutDrain(t *testing.T) {
	dir := tempDir(t)
	point := mkdir(t, dir, "m")
	_, rec := start(t, changes.Source{Path: dir, OneFileSystem: true})
	mount(t, "tmpfs", point, "tmpfs", 0)
	until(t, "the mount is a gap", func() bool { return len(rec.take().gaps) == 1 })
}

func TestSourceMountedOver(t *testing.T) {
	dir := mkdir(t, tempDir(t), "source")
	mkdir(t, dir, "hidden")
	drain := begin(t, changes.Source{Path: dir, OneFileSystem: true})
	mount(t, "tmpfs", dir, "tmpfs", 0)
	mkdir(t, dir, "on top")
	if got := drain(); len(got.gaps) == 0 || got.gaps[0].Subtree != "." {
		t.Errorf("gaps: %v", got.gaps)
	}
	probe(t, dir, drain)
	do(t, unix.Unmount(dir, 0)) // fails if the watch holds on to the file system
	if got := drain(); len(got.gaps) == 0 || got.gaps[0].Subtree != "." {
		t.Errorf("gaps: %v", got.gaps)
	}
	probe(t, dir, drain)
}

func TestWhatInotifyCannotSeeTwiceIsAGap(t *testing.T) {
	dir := tempDir(t)
	mkdir(t, dir, "a/b")
	write(t, "", dir, "file")
	write(t, "", dir, "mounted")
	mount(t, filepath.Join(dir, "a"), mkdir(t, dir, "z"), "", unix.MS_BIND)
	mount(t, filepath.Join(dir, "file"), filepath.Join(dir, "mounted"), "", unix.MS_BIND)
	drain := begin(t, changes.Source{Path: dir})
	for range 2 {
		write(t, "", dir, "z/b/f")
		got := drain()
		if len(got.gaps) != 2 || got.gaps[0].Subtree != "mounted" || got.gaps[1].Subtree != "z" {
			t.Errorf("gaps: %v", got.gaps)
		}
		if !got.covers("z/b/f") || !got.covers("a/b/f") {
			t.Errorf("recorded %v", got.highest())
		}
	}
}

// mount mounts for the length of the test.
func mount(t *testing.T, source, target, kind string, flags uintptr) {
	t.Helper()
	err := unix.Mount(source, target, kind, flags, "")
	if err == unix.EPERM {
		t.Skip("mounting needs root")
	}
	do(t, err)
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
}
