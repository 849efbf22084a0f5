package inotify

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

func TestOperations(t *testing.T) {
	const (
		attributes = changes.Attributes
		content    = changes.Content
		goneKind   = changes.Gone
		subtree    = changes.Subtree
	)
	in := filepath.Join
	tests := []struct {
		name string
		do   func(t *testing.T, dir string)
		want map[string]changes.Kind
	}{
		{"nothing", func(t *testing.T, dir string) {}, nil},
		{"create", func(t *testing.T, dir string) { write(t, "new", dir, "d/new") },
			map[string]changes.Kind{"d/new": content}},
		{"write", func(t *testing.T, dir string) { write(t, "other", dir, "d/f") },
			map[string]changes.Kind{"d/f": content}},
		{"chmod", func(t *testing.T, dir string) { do(t, os.Chmod(in(dir, "d/f"), 0o600)) },
			map[string]changes.Kind{"d/f": attributes}},
		{"chmod of a directory", func(t *testing.T, dir string) { do(t, os.Chmod(in(dir, "d"), 0o700)) },
			map[string]changes.Kind{"d": attributes}},
		{"chmod of the source", func(t *testing.T, dir string) { do(t, os.Chmod(dir, 0o700)) },
			map[string]changes.Kind{".": attributes}},
		{"times", func(t *testing.T, dir string) { do(t, os.Chtimes(in(dir, "d/f"), time.Unix(2, 0), time.Unix(1, 0))) },
			map[string]changes.Kind{"d/f": attributes}},
		{"remove", func(t *testing.T, dir string) { do(t, os.Remove(in(dir, "d/f"))) },
			map[string]changes.Kind{"d/f": goneKind}},
		{"rename", func(t *testing.T, dir string) { do(t, os.Rename(in(dir, "d/f"), in(dir, "g"))) },
			map[string]changes.Kind{"d/f": goneKind, "g": content}},
		{"link", func(t *testing.T, dir string) { do(t, os.Link(in(dir, "d/f"), in(dir, "d/g"))) },
			map[string]changes.Kind{"d/g": content}},
		{"mkdir", func(t *testing.T, dir string) { mkdir(t, dir, "d/new") },
			map[string]changes.Kind{"d/new": subtree}},
		{"rename of a directory", func(t *testing.T, dir string) { do(t, os.Rename(in(dir, "d"), in(dir, "e/d"))) },
			map[string]changes.Kind{"d": subtree, "e/d": subtree}},
		{"directory moved out", func(t *testing.T, dir string) { do(t, os.Rename(in(dir, "d"), in(tempDir(t), "d"))) },
			map[string]changes.Kind{"d": subtree}},
		{"symlink to a directory", func(t *testing.T, dir string) { do(t, os.Symlink("d", in(dir, "s"))) },
			map[string]changes.Kind{"s": content}},
		{"fifo", func(t *testing.T, dir string) { do(t, unix.Mkfifo(in(dir, "p"), 0o600)) },
			map[string]changes.Kind{"p": content}},
		{"directory becomes a file", func(t *testing.T, dir string) {
			do(t, os.RemoveAll(in(dir, "d")))
			write(t, "file", dir, "d")
		}, map[string]changes.Kind{"d": subtree}},
		{"odd names", func(t *testing.T, dir string) {
			write(t, "", dir, "new\nline")
			write(t, "", dir, "d/\xff\xfe")
			mkdir(t, dir, "-rf ;#\n")
		}, map[string]changes.Kind{"new\nline": content, "d/\xff\xfe": content, "-rf ;#\n": subtree}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := tempDir(t)
			write(t, "f", dir, "d/f")
			mkdir(t, dir, "e")
			drain := begin(t, changes.Source{Path: dir})
			test.do(t, dir)
			got := drain()
			all := got.highest()
			for path := range all {
				// What was below a directory that is in doubt may or may not be told.
				if parent := filepath.Dir(path); parent != "." && all[parent] == subtree {
					delete(all, path)
				}
			}
			if !maps.Equal(all, test.want) || got.gaps != nil {
				t.Errorf("recorded %v and gaps %v, want %v", all, got.gaps, test.want)
			}
		})
	}
}
