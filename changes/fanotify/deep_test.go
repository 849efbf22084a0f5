package fanotify

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/testscripts/disk"
)

const (
	// depth is of more levels than a path can have, and of more than one open by "../" can go up.
	depth = 4000
	// within is many times what a chain takes.
	within = 30 * time.Second
	// each is more allocations than a directory of a chain may take, whose number is in proportion to
	// that of system calls: it needs a dozen, and going up all the way would be thousands.
	each = 50
)

// makeChain nests directories in dir, each with a file beside the next one, and returns their handles
// and descriptors of every hundredth, the outermost first.
func makeChain(t testing.TB, dir string) (all []handle, every []int) {
	t.Helper()
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	at, err := unix.Open(dir, flags, 0)
	for i := 0; err == nil && i < depth; i++ {
		if err = unix.Mkdirat(at, "d", 0o755); err != nil {
			break
		}
		var next int
		if next, err = unix.Openat(at, "d", flags, 0); err != nil {
			break
		}
		if i%100 == 0 {
			every = append(every, next)
			t.Cleanup(func() { unix.Close(next) })
		}
		if (i-1)%100 != 0 {
			unix.Close(at)
		}
		at = next
		if err = touch(at, "g"); err != nil {
			break
		}
		var h handle
		h, _, err = handleOf(at)
		all = append(all, h)
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(at)
	return all, every
}

// touch makes or changes the file of that name in an open directory.
func touch(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte("x"))
	unix.Close(fd)
	return err
}

// hold keeps the reader from reading until released.
func hold(t testing.TB, g *Group) (release func()) {
	t.Helper()
	held, released := make(chan struct{}), make(chan struct{})
	go g.do(t.Context(), func() error {
		close(held)
		<-released
		return nil
	})
	<-held
	return func() { close(released) }
}

// drainWithin drains and fails the test if that takes longer than a chain may.
func drainWithin(t testing.TB, w changes.Watch) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := w.Drain(ctx); err != nil {
		t.Fatalf("after %v: %v", within, err)
	}
}

// measure runs f and fails the test if it takes more than a chain may.
func measure(t testing.TB, what string, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	f()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	n := (after.Mallocs - before.Mallocs) / depth
	t.Logf("%s: %v, %d allocations for each directory", what, took, n)
	if n > each {
		t.Errorf("%s: %d allocations for each directory", what, n)
	}
}

func TestChain(t *testing.T) {
	for _, place := range []string{"src", "out"} {
		t.Run(place, func(t *testing.T) {
			g := open(t)
			dir := disk.New(t, "ext4")
			shell(t, dir, "mkdir src out")
			source := dir + "/src"
			w, rec := watchSource(t, g, changes.Source{Path: source, OneFileSystem: true})
			check := func(name string) {
				t.Helper()
				if place == "src" {
					checkChain(t, rec, source, 0, name)
				} else if got := rec.take(); got != "" {
					t.Errorf("recorded: %.200q", got)
				}
			}
			release := hold(t, g)
			all, every := makeChain(t, filepath.Join(dir, place))
			release()
			measure(t, "drained", func() { drainWithin(t, w) })
			check("g")
			touchUpwards(t, every, "known", func() {})
			drainWithin(t, w)
			check("known")
			touchUpwards(t, every, "forgotten", func() { forget(t, g) })
			drainWithin(t, w)
			check("forgotten")
			lookUp(t, g, "downwards", all)
			slices.Reverse(all)
			lookUp(t, g, "upwards", all)
			rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			lookUp(t, g, "in no order", all)
		})
	}
}

// lookUp looks for directories of which nothing is known, in this order.
func lookUp(t *testing.T, g *Group, order string, dirs []handle) {
	t.Helper()
	forget(t, g)
	err := g.do(t.Context(), func() error {
		measure(t, order, func() {
			for _, dir := range dirs {
				g.views[0].lookup(dir)
			}
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSourceInChain has a source that only just has a path.
func TestSourceInChain(t *testing.T) {
	g := open(t)
	dir := disk.New(t, "ext4")
	_, every := makeChain(t, dir)
	levels := (unix.PathMax-len(dir))/len("/d") - 10
	source := dir + strings.Repeat("/d", levels)
	w, rec := watchSource(t, g, changes.Source{Path: source, OneFileSystem: true})
	touchUpwards(t, every, "f", func() { forget(t, g) })
	drainWithin(t, w)
	checkChain(t, rec, source, levels, "f")
}

// touchUpwards makes a file in directories of a chain, the innermost first.
func touchUpwards(t *testing.T, dirs []int, name string, between func()) {
	t.Helper()
	for _, dir := range slices.Backward(dirs) {
		if err := touch(dir, name); err != nil {
			t.Fatal(err)
		}
		between()
	}
}

// forget has the events so far told and then nothing known of any directory.
func forget(t *testing.T, g *Group) {
	t.Helper()
	err := g.do(t.Context(), func() error {
		for _, v := range g.views {
			v.forget()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkChain checks that the file of that name is covered in those of every hundredth directory of a
// chain that lie in the source, which is so many levels down in it itself, and that no more is in
// doubt than has to be. It forgets what was recorded.
func checkChain(t *testing.T, rec *memory, source string, levels int, name string) {
	t.Helper()
	for i := 0; i < depth; i += 100 {
		if below := i + 1 - levels; below >= 0 && !rec.covers(strings.Repeat("d/", below)+name, changes.Content) {
			t.Errorf("level %d: not covered", i+1)
		}
	}
	if len(rec.gaps) > 0 || len(rec.files) > 0 {
		t.Errorf("%d gaps, %d files known by handle", len(rec.gaps), len(rec.files))
	}
	for path, kind := range rec.paths {
		// The next directory would have a path, too.
		if kind == changes.Subtree && len(source)+len("/")+len(path)+len("/d") < unix.PathMax {
			t.Errorf("a subtree in doubt: %.50q and so on, %d bytes", path, len(path))
		}
	}
	rec.take()
}
