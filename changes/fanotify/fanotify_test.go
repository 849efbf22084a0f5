package fanotify

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/testscripts/disk"
)

// operations are what a program does to a tree, and what a Recorder is told. The tree: d/f, d/e/g,
// other/, and outside the source out/f and out/d/f.
var operations = []struct {
	name, script, want string
}{
	{"nothing", `true`, ""},
	{"new file", `echo x >new`, "new content"},
	{"write", `echo x >>d/f`, "d/f content"},
	{"chmod", `chmod 600 d/f`, "d/f attributes"},
	{"owner, xattr", `chown 1:1 d/f; setfattr -n trusted.x -v y d/e/g`, "d/e/g attributes\nd/f attributes"},
	{"touch", `touch -d 2001-01-01 d/f`, "d/f content"}, // it opens the file for writing
	{"chmod directory", `chmod 700 d/e`, "d/e attributes"},
	{"chmod source", `chmod 711 .`, ". attributes"},
	{"remove", `rm d/f`, "d/f gone"},
	{"remove and make again", `rm d/f; echo y >d/f`, "d/f gone"},
	{"symlink", `ln -s x d/l`, "d/l content"},
	{"fifo", `mkfifo d/p`, "d/p content"},
	{"hard link", `ln d/f other/l`, "other/l content"}, // the newest name stands for the file
	{"rename", `mv d/f other/g`, "d/f gone\nother/g content"},
	{"rename over", `echo x >new; mv new d/f`, "d/f content\nnew gone"},
	{"rename out", `mv d/f ../out/g`, "d/f gone"},
	{"rename in", `mv ../out/f d/g`, "d/g content"},
	{"rename directory", `mv d z`, "d subtree\nz subtree"},
	{"rename directory out", `mv d ../out/z`, "d subtree"},
	{"rename directory in", `mv ../out/d z`, "z subtree"},
	{"write after rename", `mv d z; echo x >z/f; echo x >z/e/g`, "d subtree\nz subtree\nz/e/g content\nz/f content"},
	{"write before rename", `echo x >d/f; mv d z`, "d subtree\nz subtree\nz/f content"},
	{"two renames", `mv d z; mv z y; echo x >y/e/g`, "d subtree\ny subtree\ny/e/g content\nz subtree"},
	{"mkdir", `mkdir n; echo x >n/f`, "n content\nn/f content"},
	{"rm -r", `rm -r d`, "d subtree"},
	{"rm -r, mkdir", `rm -r d; mkdir d; echo x >d/new`, "d subtree\nd/new content"},
	{"odd name", `echo x >$'a\n\xff'`, "a\n\xff content"},
	{"outside", `echo x >>../out/f; chmod 600 ../out/d; rm -r ../out/d`, ""},
	{"skipped", `mkdir skip; echo x >skip/f; rm -r skip`, ""},
	{"unlinked while open", `exec 3>>d/f; rm d/f; echo x >&3`, "d/f gone"},
	{"name removed, another lives", `ln d/f other/l; exec 3>>d/f; rm d/f; echo x >&3`, "d/f gone\nother/l content"},
}

func TestOperations(t *testing.T) {
	g := open(t)
	for _, fsType := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(fsType, func(t *testing.T) {
			point := disk.New(t, fsType)
			for _, op := range operations {
				t.Run(op.name, func(t *testing.T) {
					dir := filepath.Join(point, strings.ReplaceAll(op.name, " ", "-"))
					source := makeTree(t, dir)
					w, rec := watchSource(t, g, changes.Source{Path: source, OneFileSystem: true, Skip: []string{source + "/skip"}})
					defer w.Close()
					shell(t, source, op.script)
					drain(t, w)
					if got := rec.take(); got != op.want {
						t.Errorf("%s\ngot:\n%s\nwant:\n%s", op.script, got, op.want)
					}
				})
			}
		})
	}
}

// makeTree makes the tree of the table of operations and returns the source.
func makeTree(t testing.TB, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	shell(t, dir, `mkdir -p src/d/e src/other out/d; echo 1 >src/d/f; echo 2 >src/d/e/g; echo 3 >out/f; echo 4 >out/d/f`)
	return filepath.Join(dir, "src")
}

// TestOverflow hands the group the kernel's event, which needs a lack of memory to come by itself.
func TestOverflow(t *testing.T) {
	g := open(t)
	w, rec := watchSource(t, g, changes.Source{Path: t.TempDir(), OneFileSystem: true})
	err := g.do(t.Context(), func() error {
		g.take(encode(unix.FAN_Q_OVERFLOW))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, w, rec, ". gap: the kernel's event queue overflowed")
}

func TestClosed(t *testing.T) {
	g := open(t)
	dir := t.TempDir()
	w, rec := watchSource(t, g, changes.Source{Path: dir, OneFileSystem: true})
	other, otherRec := watchSource(t, g, changes.Source{Path: dir, OneFileSystem: true})
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	shell(t, dir, `echo x >f`)
	expect(t, other, otherRec, "f content")
	if got := rec.take(); got != "" {
		t.Errorf("after Close: %s", got)
	}
	for range 2 {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := other.Drain(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("draining a closed group: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if _, err := g.Watch(t.Context(), changes.Source{Path: dir}, rec); !errors.Is(err, ErrClosed) {
		t.Errorf("watching with a closed group: %v", err)
	}
}

// TestQuickDrain makes sure that a drain does not wait for the queue to fill.
func TestQuickDrain(t *testing.T) {
	g := open(t)
	dir := t.TempDir()
	w, rec := watchSource(t, g, changes.Source{Path: dir, OneFileSystem: true})
	best := time.Hour
	for i := range 20 {
		path := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		drain(t, w)
		best = min(best, time.Since(start))
		if got, want := rec.take(), strconv.Itoa(i)+" content"; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if best >= fill {
		t.Errorf("the quickest of 20 drains took %v", best)
	}
}
