package rsync

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// newSmallTarget returns an engine whose target holds eight megabytes.
func newSmallTarget(t *testing.T) *Engine {
	t.Helper()
	e := newEngine(t)
	mount(t, "tmpfs", e.Target, "tmpfs", 0, "size=8m")
	return e
}

// A file with several names that does not fit fails under all of them, and no other does.
func TestLinksNoRoom(t *testing.T) {
	e := newSmallTarget(t)
	groups := [][]string{{"big/1", "big/2"}}
	linked(t, e, strings.Repeat("x", 12<<20), groups[0]...)
	for i := range 300 {
		names := []string{fmt.Sprintf("d/x%d", i), fmt.Sprintf("d/y%d", i)}
		linked(t, e, "1", names...)
		groups = append(groups, names)
	}
	res, err := e.Links(t.Context(), groups, true)
	if err != nil || !slices.Equal(failedPaths(res), groups[0]) || !res.Failed[0].NoRoom() || res.Done != 600 {
		t.Fatalf("failed %q, %d done, %v", res.Failed, res.Done, err)
	}
	for _, names := range groups[1:] {
		if !sameFile(filepath.Join(e.Target, names[0]), filepath.Join(e.Target, names[1])) {
			t.Errorf("%q are not linked", names)
		}
	}
}

// However many files do not fit, each of them fails, what is smaller arrives, and what has arrived does not fail.
func TestManyNoRoom(t *testing.T) {
	passes := map[string]func(e *Engine, names []string) (Result, error){
		"paths":    func(e *Engine, names []string) (Result, error) { return e.Paths(t.Context(), names, true) },
		"full":     func(e *Engine, _ []string) (Result, error) { return e.Full(t.Context(), true) },
		"subtrees": func(e *Engine, _ []string) (Result, error) { return e.Subtrees(t.Context(), []string{"d"}) },
		"directories": func(e *Engine, _ []string) (Result, error) {
			return e.Directories(t.Context(), []string{"d"}, true)
		},
	}
	sizes := map[string]func(i int) int{
		"equal":   func(int) int { return 1_000_000 },
		"falling": func(i int) int { return (50 - i) << 18 },
	}
	for how, size := range sizes {
		for name, pass := range passes {
			t.Run(name+" "+how, func(t *testing.T) {
				e := newSmallTarget(t)
				write(t, e.Target, "d/extra=1")
				names := []string{"d"}
				for i := range 40 {
					names = append(names, fmt.Sprintf("d/%02d", i))
					write(t, e.Source, names[i+1]+"="+strings.Repeat("x", size(i)))
				}
				for i := range 20 {
					names = append(names, fmt.Sprintf("d/small%02d", i))
					write(t, e.Source, names[i+41]+"=1")
				}
				res, err := pass(e, names)
				if err != nil {
					t.Fatal(err)
				}
				failed := failedPaths(res)
				for _, name := range names[1:] {
					arrived := target(t, e, name) != "no such file or directory"
					if arrived == slices.Contains(failed, name) {
						t.Errorf("%s arrived: %v", name, arrived)
					}
				}
				if len(failed) == 40 || target(t, e, "d/small19") != "1" {
					t.Errorf("failed %d: %q", len(failed), failed)
				}
				if there := target(t, e, "d/extra") == "1"; there != (name == "paths") {
					t.Errorf("extraneous there: %v", there)
				}
			})
		}
	}
}

// A file that is to be sent again has not arrived before the end, even if it comes before the one that did not fit.
func TestDiscardedNoRoom(t *testing.T) {
	e := newEngine(t)
	write(t, e.Source, "a=1", "b=2", "c=3", "d=4")
	rep := newReport(e, pass{list: []string{"a", "b", "c", "d"}})
	for _, name := range rep.pass.list {
		rep.output("=>f.st...... 1 1 " + name)
	}
	rep.complaint("WARNING: b failed verification -- update discarded (will try again).")
	rep.output("=>f.st...... 1 1 b")
	rep.complaint(`rsync: [receiver] write failed on "` + e.Target + `/d": No space left on device (28)`)
	if arrived := rep.arrivedBeforeEnd(true); !slices.Equal(arrived, []string{"a"}) {
		t.Errorf("arrived %q", arrived)
	}
}

// A directory keeps its time where files in it arrived before one did not fit, and where nothing did.
func TestDirectoryTimesNoRoom(t *testing.T) {
	e := newSmallTarget(t)
	names := []string{"a/1", "a/b/2", "d/3", "d/4", "large"}
	write(t, e.Source, "a/1=old", "a/b/2=old", "d/3=old", "d/4=old", "large=old")
	long := time.Unix(1_000_000_000, 0)
	for _, dir := range []string{"a", "a/b", "d", "."} {
		if err := os.Chtimes(filepath.Join(e.Source, dir), long, long); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Full(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	write(t, e.Source, "a/1=new", "a/b/2=new", "d/3=new", "d/4="+strings.Repeat("x", 12<<20), "large="+strings.Repeat("x", 13<<20))
	res, err := e.Paths(t.Context(), names, true)
	if err != nil || !slices.Equal(failedPaths(res), []string{"d/4", "large"}) || res.Done != 3 {
		t.Fatalf("failed %q, %d done, %v", res.Failed, res.Done, err)
	}
	res, err = e.Paths(t.Context(), []string{"d/4"}, true)
	if err != nil || !slices.Equal(failedPaths(res), []string{"d/4"}) {
		t.Fatalf("again: failed %q, %v", res.Failed, err)
	}
	for _, dir := range []string{"a", "a/b", "d"} {
		info, err := os.Stat(filepath.Join(e.Target, dir))
		if err != nil || !info.ModTime().Equal(long) {
			t.Errorf("%s: %v, %v", dir, info.ModTime(), err)
		}
	}
}

// What was sent has not arrived because a directory did not fit, when rsync then broke off.
func TestAbortNoRoom(t *testing.T) {
	for _, end := range []string{"exit 12", "kill -SEGV $$", "kill -KILL $$"} {
		t.Run(end, func(t *testing.T) {
			e := newEngine(t)
			e.Program = filepath.Join(filepath.Dir(e.Source), "rsync")
			write(t, e.Source, "a=new", "b=new", "d/")
			write(t, e.Target, "a=old", "b=old")
			script := fmt.Sprintf(`#!/bin/sh
if mkdir '%s.began' 2>/dev/null; then
	cat >/dev/null
	echo '=>f.st...... 3 3 a'
	echo '=>f.st...... 3 3 b'
	echo 'rsync: [generator] recv_generator: mkdir "%s/d" failed: No space left on device (28)' >&2
	%s
fi
exec rsync "$@"
`, e.Program, e.Target, end)
			if err := os.WriteFile(e.Program, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			res, err := e.Paths(t.Context(), []string{"a", "b", "d"}, true)
			failed := failedPaths(res)
			for _, name := range []string{"a", "b"} {
				if got := target(t, e, name); err == nil && got != "new" && !slices.Contains(failed, name) {
					t.Errorf("%s is %q and neither failed nor is there an error; failed: %q", name, got, failed)
				}
			}
		})
	}
}
