package fanotify

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/testscripts/disk"
)

// TestRandom does random things to a tree, inside and across the border of the source, and checks
// that every difference is covered by something recorded.
func TestRandom(t *testing.T) {
	g := open(t)
	for _, fsType := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(fsType, func(t *testing.T) {
			dir := disk.New(t, fsType)
			testRandom(t, g, dir, chaos{dir: dir, nameLen: 1})
		})
	}
}

// TestRandomDeep has the source where the third directory below it has no path any more. What is done
// there goes through another mount, which makes the paths short.
func TestRandomDeep(t *testing.T) {
	g := open(t)
	top, short := disk.New(t, "ext4"), t.TempDir()
	const nameLen = 250
	long := top
	for len(long) < unix.PathMax-3*nameLen-nameLen/2 {
		long += "/" + strings.Repeat("l", 100)
	}
	if err := os.MkdirAll(long, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "--bind", long, short)
	t.Cleanup(func() { run(t, "umount", short) })
	testRandom(t, g, long, chaos{dir: short, nameLen: nameLen})
}

// testRandom has c go wild and the source src in dir watched, which is what c has it in too.
func testRandom(t *testing.T, g *Group, dir string, c chaos) {
	source := c.dir + "/src"
	if err := os.MkdirAll(source, 0o755); err != nil {
		t.Fatal(err)
	}
	w, rec := watchSource(t, g, changes.Source{Path: dir + "/src", OneFileSystem: true})
	seed := uint64(time.Now().UnixNano())
	for round := range uint64(60) {
		before := snapshot(t, source)
		c := chaos{rand: rand.New(rand.NewPCG(seed, round)), dir: c.dir, nameLen: c.nameLen}
		stop := keepDraining(t, w, round%2 == 0)
		for range 100 {
			c.step()
		}
		c.closeAll()
		stop()
		drain(t, w)
		compare(t, rec, source, before, snapshot(t, source))
		if t.Failed() {
			t.Fatalf("seed %d, round %d", seed, round)
		}
	}
}

// keepDraining makes the reader read all the time, if it is to, so that events are resolved at
// every possible moment.
func keepDraining(t *testing.T, w changes.Watch, really bool) (stop func()) {
	if !really {
		return func() {}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			w.Drain(ctx)
		}
	}()
	return func() { cancel(); <-done }
}

// A chaos is a program without manners. What it tries may fail.
type chaos struct {
	rand    *rand.Rand
	dir     string
	nameLen int
	open    []*os.File
}

// path returns a random path of up to four names, two of three inside the source.
func (c *chaos) path() string {
	path := c.dir + "/src"
	if c.rand.IntN(3) == 0 {
		path = c.dir + "/out"
	}
	for range 1 + c.rand.IntN(4) {
		path += "/" + strings.Repeat(string(rune('a'+c.rand.IntN(4))), c.nameLen)
	}
	return path
}

func (c *chaos) step() {
	a, b := c.path(), c.path()
	switch c.rand.IntN(16) {
	case 0, 1, 2:
		os.MkdirAll(a, 0o755)
	case 3, 4:
		os.WriteFile(a, []byte(fmt.Sprint(c.rand.Uint64())), 0o644)
	case 5:
		os.Chmod(a, fs.FileMode(0o700|c.rand.IntN(64)))
	case 6:
		os.Remove(a)
	case 7, 8:
		// Rarely a directory: its subtree covers whatever else is missed.
		if stat, err := os.Lstat(a); err == nil && (!stat.IsDir() || c.rand.IntN(8) == 0) {
			os.Rename(a, b)
		}
	case 9:
		if c.rand.IntN(8) == 0 {
			unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
		}
	case 10, 11:
		os.Link(a, b)
	case 12:
		os.Symlink(fmt.Sprint(c.rand.Uint64()), a)
	case 13:
		if c.rand.IntN(16) == 0 {
			os.RemoveAll(a)
		}
	case 14:
		if f, err := os.OpenFile(a, os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0); err == nil {
			c.open = append(c.open, f)
		}
	case 15:
		if len(c.open) > 0 {
			f := c.open[c.rand.IntN(len(c.open))]
			fmt.Fprint(f, c.rand.Uint64())
		}
	}
}

func (c *chaos) closeAll() {
	for _, f := range c.open {
		f.Close()
	}
}

// A state is what a copy of a path would have to be like.
type state struct {
	mode    fs.FileMode
	content string
	time    time.Time
	inode   uint64
}

// snapshot returns the states of all paths below dir.
func snapshot(t *testing.T, dir string) map[string]state {
	t.Helper()
	states := make(map[string]state)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		s := state{mode: fs.FileMode(stat.Mode), inode: stat.Ino}
		switch d.Type() {
		case 0:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			s.content = string(content)
			s.time = time.Unix(stat.Mtim.Unix())
		case fs.ModeSymlink:
			s.content, err = os.Readlink(path)
		case fs.ModeDir:
			// Its time goes with its entries, which report themselves.
		}
		rel, _ := filepath.Rel(dir, path)
		states[rel] = s
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return states
}

// compare checks that rec covers the way from before to after, and forgets what it was told.
func compare(t *testing.T, rec *memory, dir string, before, after map[string]state) {
	t.Helper()
	names := make(map[uint64][]string)
	for path, s := range after {
		names[s.inode] = append(names[s.inode], path)
	}
	for path, now := range after {
		was, existed := before[path]
		if was == now {
			continue
		}
		need := changes.Content
		if existed && was.content == now.content && was.mode&unix.S_IFMT == now.mode&unix.S_IFMT {
			need = changes.Attributes
		}
		h, _, err := handleAt(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		covered := rec.files[changes.Handle(h)]
		for _, name := range names[now.inode] {
			covered = covered || rec.covers(name, need)
		}
		if !covered {
			t.Errorf("%s: %+v became %+v, not recorded as %v", path, was, now, need)
		}
	}
	for path := range before {
		if _, still := after[path]; !still && !rec.covers(path, changes.Content) {
			t.Errorf("%s was removed, not recorded", path)
		}
	}
	if len(rec.gaps) > 0 {
		t.Errorf("gaps: %+v", rec.gaps)
	}
	rec.take()
}

// covers reports whether path was recorded with at least this doubt, or lies in a subtree that was.
func (m *memory) covers(path string, need changes.Kind) bool {
	if m.paths[path] >= need || m.paths["."] == changes.Subtree {
		return true
	}
	for {
		slash := strings.LastIndexByte(path, '/')
		if slash < 0 {
			return false
		}
		path = path[:slash]
		if m.paths[path] == changes.Subtree {
			return true
		}
	}
}
