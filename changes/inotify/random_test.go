package inotify

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

// seedEnv repeats a random test: RSINCE_TEST_SEED=N, as the failure printed it.
const seedEnv = "RSINCE_TEST_SEED"

func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(seedEnv); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		do(t, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s=%d", seedEnv, seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// TestRandom compares the tree between drains: whatever differs must have been recorded.
func TestRandom(t *testing.T) {
	rng := random(t)
	dir := tempDir(t)
	for range 300 {
		mutate(rng, dir)
	}
	w, rec := start(t, changes.Source{Path: dir})
	drain := drainer(t, w, rec)
	before := snapshot(t, dir)
	for range 150 {
		for range rng.IntN(60) {
			mutate(rng, dir)
		}
		got := drain()
		after := snapshot(t, dir)
		compare(t, before, after, got)
		if t.Failed() {
			return
		}
		before = after
	}
	probe(t, dir, drain)
	sameDirectories(t, dir, w)
}

// TestRandomDrains drains while the tree is being changed, which must neither lose a watch nor hang.
func TestRandomDrains(t *testing.T) {
	rng := random(t)
	dir := tempDir(t)
	w, rec := start(t, changes.Source{Path: dir})
	drain := drainer(t, w, rec)
	for range 8 {
		before := snapshot(t, dir)
		var all sync.WaitGroup
		for range 3 {
			rng := rand.New(rand.NewPCG(rng.Uint64(), 0))
			all.Go(func() {
				for range 500 {
					mutate(rng, dir)
				}
			})
		}
		stop := make(chan struct{})
		drained := make(chan error)
		go func() {
			var err error
			for {
				select {
				case <-stop:
					drained <- err
					return
				default:
					err = cmp.Or(err, w.Drain(t.Context()))
				}
			}
		}()
		all.Wait()
		close(stop)
		do(t, <-drained)
		compare(t, before, snapshot(t, dir), drain())
		probe(t, dir, drain)
		sameDirectories(t, dir, w)
		if t.Failed() {
			return
		}
	}
}

// mutate does one random thing below dir. That it may not be possible is part of the game.
func mutate(rng *rand.Rand, dir string) {
	path := func() string {
		p := dir
		for range 1 + rng.IntN(4) {
			p += "/" + []string{"a", "b", "c", "d\n", "\xffe"}[rng.IntN(5)]
		}
		return p
	}
	p := path()
	switch rng.IntN(16) {
	case 0, 1, 2:
		_ = os.MkdirAll(p, 0o755)
	case 3, 4, 5:
		_ = os.WriteFile(p, fmt.Append(nil, rng.Uint64()), 0o644)
	case 6, 7:
		_ = unix.Rename(p, path())
	case 8, 9:
		_ = unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, path(), unix.RENAME_EXCHANGE)
	case 10:
		_ = os.RemoveAll(p)
	case 11:
		_ = os.Remove(p)
	case 12:
		_ = unix.Fchmodat(unix.AT_FDCWD, p, 0o700|rng.Uint32N(0o100), 0)
	case 13:
		_ = os.Symlink(path(), p)
	case 14:
		_ = os.Link(p, path())
	case 15:
		_ = os.RemoveAll(p)
		_ = os.MkdirAll(p+"/b/c", 0o755)
		_ = os.WriteFile(p+"/b/c/a", fmt.Append(nil, rng.Uint64()), 0o644)
	}
}

// A state is what the copy of a name would be made from.
type state struct {
	mode    fs.FileMode
	content string
	mtime   time.Time // of files: a directory's follows from what happens in it
	inode   uint64
}

func snapshot(t *testing.T, dir string) map[string]state {
	t.Helper()
	states := make(map[string]state)
	do(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		s := state{mode: info.Mode(), inode: info.Sys().(*syscall.Stat_t).Ino}
		var more error
		switch {
		case s.mode.IsRegular():
			var b []byte
			b, more = os.ReadFile(path)
			s.content, s.mtime = string(b), info.ModTime()
		case s.mode&fs.ModeSymlink != 0:
			s.content, more = os.Readlink(path)
		}
		states[rel] = s
		return errors.Join(err, more)
	}))
	return states
}

// compare fails the test for every path that differs and is in no doubt. For a file of several names
// it is enough that one of them is.
func compare(t *testing.T, before, after map[string]state, got *memory) {
	t.Helper()
	covered := make(map[uint64]bool)
	for _, states := range []map[string]state{before, after} {
		for path, s := range states {
			if !s.mode.IsDir() && got.covers(path) {
				covered[s.inode] = true
			}
		}
	}
	both := maps.Clone(before)
	maps.Copy(both, after)
	for _, path := range slices.Sorted(maps.Keys(both)) {
		b, a := before[path], after[path]
		sameFile := b.inode == a.inode && !a.mode.IsDir() && covered[a.inode]
		b.inode, a.inode = 0, 0
		if b != a && !got.covers(path) && !sameFile {
			t.Errorf("%q was %v and is %v, and nobody said so", path, b, a)
		}
	}
}
