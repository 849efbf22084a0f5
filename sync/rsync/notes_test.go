package rsync

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// run calls a pass that is to succeed for every path.
func run(t *testing.T, pass func() (Result, error)) Result {
	t.Helper()
	res, err := pass()
	if err != nil || len(res.Failed) > 0 || len(res.Vanished) > 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	return res
}

func full(t *testing.T, e *Engine) Result {
	t.Helper()
	return run(t, func() (Result, error) { return e.Full(t.Context(), true) })
}

func setTime(t *testing.T, when time.Time, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.Chtimes(name, when, when); err != nil {
			t.Fatal(err)
		}
	}
}

// rsync by itself compares whole seconds.
func TestRewriteWithinOneSecond(t *testing.T) {
	e := newEngine(t)
	write(t, e.Source, "f=aaaa")
	when := time.Date(2024, 1, 1, 10, 0, 0, 1e8, time.UTC)
	setTime(t, when, filepath.Join(e.Source, "f"))
	full(t, e)
	write(t, e.Source, "f=bbbb")
	setTime(t, when.Add(8e8), filepath.Join(e.Source, "f"))
	full(t, e)
	if got := target(t, e, "f"); got != "bbbb" {
		t.Error(got)
	}
}

// A rewrite whose times were put back is seen by no comparison of size and time.
func TestUnknownContent(t *testing.T) {
	for name, pass := range map[string]func(*Engine) (Result, error){
		"paths":           func(e *Engine) (Result, error) { return e.Paths(t.Context(), []string{"d/f"}, true) },
		"directories":     func(e *Engine) (Result, error) { return e.Directories(t.Context(), []string{"d"}, true) },
		"subtrees":        func(e *Engine) (Result, error) { return e.Subtrees(t.Context(), []string{"d"}) },
		"links":           func(e *Engine) (Result, error) { return e.Links(t.Context(), [][]string{{"d/f"}}, true) },
		"only attributes": func(e *Engine) (Result, error) { return e.Paths(t.Context(), []string{"d/f"}, false) },
		"only names":      func(e *Engine) (Result, error) { return e.Directories(t.Context(), []string{"d"}, false) },
		"only linking":    func(e *Engine) (Result, error) { return e.Links(t.Context(), [][]string{{"d/f"}}, false) },
	} {
		e := newEngine(t)
		when := time.Date(2024, 1, 1, 10, 0, 0, 0, time.UTC)
		write(t, e.Source, "d/f=new")
		write(t, e.Target, "d/f=old")
		setTime(t, when, filepath.Join(e.Source, "d/f"), filepath.Join(e.Target, "d/f"))
		run(t, func() (Result, error) { return pass(e) })
		want := "new"
		if strings.HasPrefix(name, "only") {
			want = "old"
		}
		if got := target(t, e, "d/f"); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A directory that was filled is brought over empty by Paths, one level deep by Directories, and whole by Subtrees.
func TestDepth(t *testing.T) {
	e := newEngine(t)
	write(t, e.Source, "d/e/f=1", "d/g=1", "d/x=1")
	write(t, e.Target, "d/x/old/y=1", "d/e/old=1")
	run(t, func() (Result, error) { return e.Paths(t.Context(), []string{"d"}, true) })
	if target(t, e, "d/g") == "1" {
		t.Error("Paths went below")
	}
	run(t, func() (Result, error) { return e.Directories(t.Context(), []string{"d"}, true) })
	if target(t, e, "d/g") != "1" || target(t, e, "d/x") != "1" || target(t, e, "d/e/f") == "1" || target(t, e, "d/e/old") != "1" {
		t.Error("Directories is not one level deep")
	}
	run(t, func() (Result, error) { return e.Subtrees(t.Context(), []string{"d"}) })
	if d := differences(t, e); d != ".d..t...... ./\n" && d != "" {
		t.Error(d)
	}
}

// The whole source as a listed directory and as a listed subtree.
func TestRoot(t *testing.T) {
	e := newEngine(t)
	write(t, e.Source, "f=1", "d/g=1")
	write(t, e.Target, "extra=1", "d/extra=1")
	run(t, func() (Result, error) { return e.Directories(t.Context(), []string{"."}, true) })
	if target(t, e, "f") != "1" || target(t, e, "extra") == "1" || target(t, e, "d/g") == "1" {
		t.Error("the top was not listed right")
	}
	run(t, func() (Result, error) { return e.Subtrees(t.Context(), []string{"."}) })
	if d := differences(t, e); d != "" {
		t.Error(d)
	}
}

// Without all of its names listed a file with two of them stays half old; a full pass without -H is repaired by Links.
func TestLinks(t *testing.T) {
	e := newEngine(t)
	write(t, e.Source, "a/1=old", "other=1")
	if err := errors.Join(os.Link(filepath.Join(e.Source, "a/1"), filepath.Join(e.Source, "a/2")), os.Mkdir(filepath.Join(e.Source, "b"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(e.Source, "a/1"), filepath.Join(e.Source, "b/3")); err != nil {
		t.Fatal(err)
	}
	full(t, e)
	write(t, e.Source, "a/2=new")
	group := [][]string{{"a/1", "a/2", "b/3"}}
	run(t, func() (Result, error) { return e.Links(t.Context(), group, true) })
	if d := differences(t, e); d != "" {
		t.Error(d)
	}
}

func TestGather(t *testing.T) {
	group := func(n int) []string { return make([]string, n) }
	var sizes []int
	for _, some := range gather([][]string{group(2), group(300), group(199), group(2), group(900), group(1)}, 500) {
		sizes = append(sizes, len(slices.Concat(some...)))
	}
	if want := []int{302, 201, 900, 1}; !slices.Equal(sizes, want) {
		t.Errorf("%d, want %d", sizes, want)
	}
}

// Deletions below a missing directory, and of a listed name whose directory is gone too.
func TestDeletionsAreNotLost(t *testing.T) {
	e := newEngine(t)
	write(t, e.Target, "top/a/b=1")
	res, err := e.Deletions(t.Context(), []string{"top/a/b", "never-was"})
	if err != nil || !slices.Equal(res.Vanished, []string{"top", "top/a"}) {
		t.Errorf("%+v, %v", res, err)
	}
	run(t, func() (Result, error) { return e.Deletions(t.Context(), []string{"top", "never-was"}) })
	if _, err := os.Stat(filepath.Join(e.Target, "top")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Names that go away between the list and rsync are vanished ones, not failed ones.
func TestVanished(t *testing.T) {
	e := newEngine(t)
	write(t, e.Source, "here=1", "d/f=1", "file=1")
	write(t, e.Target, "d/extra=1")
	res, err := e.Paths(t.Context(), []string{"here", "gone", "goneto/o", "file/below"}, true)
	slices.Sort(res.Vanished)
	if err != nil || !slices.Equal(res.Vanished, []string{"gone", "goneto/o"}) || !slices.Equal(failedPaths(res), []string{"file/below"}) || res.Done != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	for _, pass := range []func() (Result, error){
		func() (Result, error) { return e.Directories(t.Context(), []string{"d", "gone"}, true) },
		func() (Result, error) { return e.Subtrees(t.Context(), []string{"d", "gone"}) },
	} {
		write(t, e.Target, "d/extra=1")
		res, err := pass()
		if err != nil || !slices.Equal(res.Vanished, []string{"gone"}) || len(res.Failed) > 0 || target(t, e, "d/extra") == "1" {
			t.Errorf("%+v, %v", res, err)
		}
	}
}

// The parents of a listed name get what they have in the source, whatever was on the target, a symlink to
// somewhere else too.
func TestParents(t *testing.T) {
	needRoot(t)
	e := newEngine(t)
	write(t, e.Source, "p/q/f=1", "s/f=1")
	outside := filepath.Join(filepath.Dir(e.Target), "outside")
	write(t, outside, "f=precious")
	err := errors.Join(
		os.Chmod(filepath.Join(e.Source, "p"), 0o2710), os.Chown(filepath.Join(e.Source, "p"), 77, 78),
		unix.Setxattr(filepath.Join(e.Source, "p/q"), "user.x", []byte("1"), 0),
		os.Chmod(filepath.Join(e.Source, "p"), 0o2710|os.ModeSetgid),
		os.Symlink(outside, filepath.Join(e.Target, "s")))
	if err != nil {
		t.Fatal(err)
	}
	setTime(t, time.Date(2020, 1, 1, 0, 0, 0, 5, time.UTC), filepath.Join(e.Source, "p/q"), filepath.Join(e.Source, "p"))
	run(t, func() (Result, error) { return e.Paths(t.Context(), []string{"p/q/f", "s/f"}, true) })
	if d := differences(t, e); d != "" {
		t.Error(d)
	}
	if content, _ := os.ReadFile(filepath.Join(outside, "f")); string(content) != "precious" {
		t.Error("written outside of the target")
	}
}

// A full pass that is not to delete does not.
func TestFullWithoutDeleting(t *testing.T) {
	e := newEngine(t)
	write(t, e.Source, "f=1")
	write(t, e.Target, "mine=1")
	run(t, func() (Result, error) { return e.Full(t.Context(), false) })
	if target(t, e, "f") != "1" || target(t, e, "mine") != "1" {
		t.Error("not copied, or deleted")
	}
}

// What the source cannot have as an ordinary user is failed paths.
func TestUnprivileged(t *testing.T) {
	e := newEngine(t)
	asNobody(t, e)
	write(t, e.Source, "f=1")
	if err := unix.Mknod(filepath.Join(e.Source, "device"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Skip(err)
	}
	for _, pass := range []func() (Result, error){
		func() (Result, error) { return e.Full(t.Context(), true) },
		func() (Result, error) { return e.Paths(t.Context(), []string{"f", "device"}, true) },
	} {
		res, err := pass()
		if err != nil || !slices.Equal(failedPaths(res), []string{"device"}) || target(t, e, "f") != "1" {
			t.Errorf("%+v, %v", res, err)
		}
	}
}

func TestDryRun(t *testing.T) {
	e := newEngine(t)
	write(t, e.Source, "new=12345", "changed=123", "d/f=1")
	write(t, e.Target, "changed=1", "extra/y=1", "d/f=1", "gone=1")
	var items []string
	e.Items = func(i Item) { items = append(items, i.Action.String()+" "+i.Path) }
	e.DryRun = true
	run(t, func() (Result, error) { return e.Paths(t.Context(), []string{"new", "changed"}, true) })
	res := run(t, func() (Result, error) { return e.Deletions(t.Context(), []string{"gone"}) })
	if res.Deleted != 1 || target(t, e, "gone") != "1" {
		t.Errorf("%+v", res)
	}
	for _, want := range []string{"create new", "update changed", "delete gone"} {
		if !slices.Contains(items, want) {
			t.Errorf("no %q in %q", want, items)
		}
	}
	e.Capabilities.DeleteMissingArgs = false
	res = run(t, func() (Result, error) { return e.Deletions(t.Context(), []string{"gone"}) })
	if res.Deleted != 1 || target(t, e, "gone") != "1" {
		t.Errorf("%+v", res)
	}
	res = full(t, e)
	if res.Deleted != 3 || res.Created != 1 || res.Bytes < 8 || target(t, e, "changed") != "1" {
		t.Errorf("%+v", res)
	}
}

// Extraneous finds what Full then deletes.
func TestExtraneous(t *testing.T) {
	e := newEngine(t)
	e.Filters = []string{"--filter=- *.o"}
	write(t, e.Source, "f=1", "d/f=1", "was-dir=1", "was-file/f=1")
	write(t, e.Target, "f=1", "d/extra=1", "x/y/z=1", "\n=1", "k/o.o=1", "was-dir/a/b=1", "was-file=1")
	if err := os.Symlink("nowhere", filepath.Join(e.Source, "s")); err != nil {
		t.Fatal(err)
	}
	var foreseen, deleted []string
	e.Items = func(i Item) { foreseen = append(foreseen, i.Path) }
	res := run(t, func() (Result, error) { return e.Extraneous(t.Context(), nil) })
	if len(foreseen) != res.Deleted {
		t.Errorf("%d deletions, %q", res.Deleted, foreseen)
	}
	e.Items = func(i Item) {
		if i.Action == Delete {
			deleted = append(deleted, i.Path)
		}
	}
	full(t, e)
	slices.Sort(foreseen)
	slices.Sort(deleted)
	if !slices.Equal(foreseen, deleted) {
		t.Errorf("foreseen %q\n deleted %q", foreseen, deleted)
	}
}

// Paths beyond what rsync can handle are failed paths and hold nothing up.
func TestLongPaths(t *testing.T) {
	e := newHeldEngine(t)
	long := strings.Repeat(strings.Repeat("n", 200)+"/", 20) // 4,020 bytes
	root, err := os.OpenRoot(e.Source)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.MkdirAll(long, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, e.Source, "short=1")
	fits, tooLong := long+strings.Repeat("f", 50), long+strings.Repeat("f", 100)
	for _, name := range []string{fits, tooLong} {
		if err := root.WriteFile(name, []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	res, err := e.Paths(t.Context(), []string{"short", fits, tooLong}, true)
	if err != nil || !slices.Equal(failedPaths(res), []string{tooLong}) || res.Done != 2 {
		t.Errorf("%d failed, done %d, %v", len(res.Failed), res.Done, err)
	}
	res, err = e.Full(t.Context(), true)
	if err != nil || len(res.Failed) != 1 {
		t.Errorf("%+v, %v", res, err)
	}
}

// An inherited descriptor, and with it its flock, is in all three processes of rsync.
func TestInherit(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	lock, err := os.Create(filepath.Join(filepath.Dir(e.Source), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	e.Inherit = []*os.File{lock}
	_, err = slowly(t, t.Context(), e, func() {
		holders := 0
		fds, _ := filepath.Glob("/proc/[0-9]*/fd/3")
		for _, fd := range fds {
			if name, _ := os.Readlink(fd); name == lock.Name() {
				holders++
			}
		}
		if holders < 3 {
			t.Errorf("%d processes hold the lock", holders)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// When rsync's first process is killed, the others must not outlive the pass.
func TestNothingOutlivesAPass(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	var group processGroup
	_, err := slowly(t, t.Context(), e, func() {
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, name := range stats {
			stat, _ := os.ReadFile(name)
			args, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
			if p, ok := parseStat(string(stat)); ok && strings.Contains(string(args), e.Source+"/") {
				group = processGroup(p.group)
			}
		}
		if err := unix.Kill(int(group), unix.SIGKILL); err != nil {
			t.Error(err)
		}
	})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Signal != syscall.SIGKILL {
		t.Error(err)
	}
	if left := group.processes(); len(left) > 0 {
		t.Errorf("%+v", left)
	}
}

func TestPriority(t *testing.T) {
	e := newEngine(t)
	e.Nice, e.IO = 15, "idle"
	e.Program = filepath.Join(filepath.Dir(e.Source), "program")
	// The one who asks may be faster than the one who sets.
	script := "#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8 9 10; do [ $(nice) = 15 ] && break; sleep 0.1; done\n" +
		"nice >&2; ionice >&2; exit 7\n"
	if err := os.WriteFile(e.Program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("ionice"); err != nil {
		t.Skip(err)
	}
	_, err := e.Full(t.Context(), true)
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Stderr != "15\nidle" || exit.Code != 7 {
		t.Errorf("%+v", exit)
	}
}
