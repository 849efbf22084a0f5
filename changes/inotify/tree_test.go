package inotify

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

func TestDirectoriesAreFollowed(t *testing.T) {
	in := filepath.Join
	tests := []struct {
		name string
		do   func(t *testing.T, dir string)
		want []string // each recorded as a subtree
	}{
		{"rename", func(t *testing.T, dir string) {
			do(t, os.Rename(in(dir, "a"), in(dir, "z")))
		}, []string{"a", "z"}},
		{"rename there and back", func(t *testing.T, dir string) {
			do(t, os.Rename(in(dir, "a"), in(dir, "z")), os.Rename(in(dir, "z"), in(dir, "a")))
		}, []string{"a"}},
		{"rename of a parent, then of the child", func(t *testing.T, dir string) {
			do(t, os.Rename(in(dir, "a"), in(dir, "z")), os.Rename(in(dir, "z/b"), in(dir, "b")))
		}, []string{"a", "b", "z"}},
		{"into a new directory", func(t *testing.T, dir string) {
			do(t, os.Mkdir(in(dir, "q"), 0o755), os.Rename(in(dir, "a"), in(dir, "q/a")))
		}, []string{"a", "q"}},
		{"inside out", func(t *testing.T, dir string) {
			do(t, os.Rename(in(dir, "a/b"), in(dir, "b")), os.Rename(in(dir, "a"), in(dir, "b/a")))
		}, []string{"a", "a/b", "b"}},
		{"swap", func(t *testing.T, dir string) { exchange(t, in(dir, "a"), in(dir, "x")) }, []string{"a", "x"}},
		{"swap with a child of another", func(t *testing.T, dir string) {
			exchange(t, in(dir, "a"), in(dir, "x/y"))
		}, []string{"a", "x/y"}},
		{"swap with a file", func(t *testing.T, dir string) {
			exchange(t, in(dir, "a"), in(dir, "file"))
		}, []string{"a", "file"}},
		{"over an empty directory", func(t *testing.T, dir string) {
			do(t, unix.Rename(in(dir, "a"), in(dir, "empty"))) // os.Rename refuses
		}, []string{"a", "empty"}},
		{"removed and made anew", func(t *testing.T, dir string) {
			do(t, os.RemoveAll(in(dir, "a")))
			mkdir(t, dir, "a/b")
		}, []string{"a"}},
		{"removed, and the parent of another takes the name", func(t *testing.T, dir string) {
			do(t, os.RemoveAll(in(dir, "a")), os.Rename(in(dir, "x"), in(dir, "a")))
		}, []string{"a", "x"}},
		{"moved out and in again", func(t *testing.T, dir string) {
			out := in(tempDir(t), "a")
			do(t, os.Rename(in(dir, "a"), out), os.Rename(out, in(dir, "x/a")))
		}, []string{"a", "x/a"}},
		{"moved, then removed", func(t *testing.T, dir string) {
			do(t, os.Rename(in(dir, "a/b"), in(dir, "z")), os.RemoveAll(in(dir, "z")))
		}, []string{"a/b"}},
		{"a symlink takes the place", func(t *testing.T, dir string) {
			do(t, os.Rename(in(dir, "a"), in(dir, "z")), os.Symlink("z", in(dir, "a")))
		}, []string{"a", "z"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for i := range 6 {
				dir := tempDir(t)
				write(t, "f", dir, "a/b/c/f")
				write(t, "f", dir, "x/y/f")
				write(t, "f", dir, "file")
				mkdir(t, dir, "empty")
				w, rec := start(t, changes.Source{Path: dir})
				drain := drainer(t, w, rec)
				release := func() {}
				if i%2 == 0 { // every event is handled when all is over
					release = rec.hold()
					write(t, "g", dir, "file")
				}
				test.do(t, dir)
				release()
				got := drain()
				for _, path := range test.want {
					if !got.kinds[path][changes.Subtree] {
						t.Errorf("%s is no subtree in doubt; recorded: %v", path, got.highest())
					}
				}
				probe(t, dir, drain)
				sameDirectories(t, dir, w)
			}
		})
	}
}

func exchange(t *testing.T, a, b string) {
	t.Helper()
	do(t, unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE))
}

func TestDeepTreesMadeAtOnce(t *testing.T) {
	dir := tempDir(t)
	drain := begin(t, changes.Source{Path: dir})
	for round := range 5 {
		var made []string
		for i := range 40 {
			path := fmt.Sprintf("r%d/t%d/b/c/d/e", round, i)
			write(t, "now", dir, path, "f")
			made = append(made, path+"/f", path)
		}
		got := drain()
		for _, path := range made {
			if !got.covers(path) {
				t.Errorf("%s was lost", path)
			}
		}
	}
	probe(t, dir, drain)
}

func TestPathsBeyondPathMax(t *testing.T) {
	dir := tempDir(t)
	name := strings.Repeat("n", 250)
	deep := func(fd int, levels int) int {
		for range levels {
			do(t, unix.Mkdirat(fd, name, 0o755))
			next, err := unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY, 0)
			do(t, err)
			unix.Close(fd)
			fd = next
		}
		return fd
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	do(t, err)
	fd = deep(fd, 20)
	drain := begin(t, changes.Source{Path: dir})
	do(t, unix.Mkdirat(fd, "before", 0o755))
	fd = deep(fd, 20)
	defer unix.Close(fd)
	if got := drain(); !got.covers(strings.Repeat(name+"/", 40)) || got.gaps != nil {
		t.Errorf("the deep directories were lost; gaps: %v", got.gaps)
	}
	do(t, unix.Mkdirat(fd, "last", 0o755))
	last := strings.Repeat(name+"/", 40) + "last"
	if got := drain(); !got.kinds[last][changes.Subtree] {
		t.Errorf("a new directory under a path of %d bytes was lost", len(last))
	}
}

func TestSkip(t *testing.T) {
	dir := tempDir(t)
	mkdir(t, dir, "skip/below")
	mkdir(t, dir, "skipped-not")
	drain := begin(t, changes.Source{Path: dir, Skip: []string{filepath.Join(dir, "skip"), filepath.Join(dir, "later")}})
	write(t, "", dir, "skip/below/f")
	write(t, "", dir, "later/f")
	do(t, os.Chmod(filepath.Join(dir, "skip"), 0o700))
	do(t, os.RemoveAll(filepath.Join(dir, "later")))
	write(t, "", dir, "skipped-not/f")
	got := drain()
	if len(got.kinds) != 1 || !got.kinds["skipped-not/f"][changes.Content] {
		t.Errorf("recorded %v", got.highest())
	}
}
