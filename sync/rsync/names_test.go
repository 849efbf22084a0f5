package rsync

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rsince/sync/rsync/rsynctest"
)

// What rsync says of a temporary file is charged to every name that it can be of: to the listed ones, or where
// rsync finds names by itself to those of the source.
func TestTemporaryNames(t *testing.T) {
	needRoot(t)
	long := strings.Repeat("n", 249)
	letters := strings.Repeat("ж", 125) // 250 bytes, of which rsync keeps none
	for _, c := range []struct {
		names []string // the last one is changed
		found []string // the ones charged when rsync finds the names
	}{
		{[]string{"d/x", "d/.x"}, []string{"d/.x", "d/x"}},
		{[]string{"d/.x", "d/x"}, []string{"d/.x", "d/x"}},
		{[]string{"d/x", "d/..x"}, []string{"d/..x"}},
		{[]string{"d/x", "d/x."}, []string{"d/x", "d/x."}},
		{[]string{"d/" + long + "1", "d/." + long, "d/" + long + "2"}, []string{"d/." + long, "d/" + long + "1", "d/" + long + "2"}},
		{[]string{"d/x", "d/" + letters}, []string{"d/" + letters}},
		{[]string{"x", "d/x"}, []string{"d/x"}},
	} {
		last := c.names[len(c.names)-1]
		t.Run(strings.TrimRight(last, "nж"), func(t *testing.T) {
			e := newHeldEngine(t)
			for _, name := range c.names {
				write(t, e.Source, name+"=old")
			}
			full(t, e)
			write(t, e.Source, last+"=newer")
			immutable(t, filepath.Join(e.Target, "d"))
			expectFailed(t, "paths", c.found[:0:0], last)(e.Paths(t.Context(), []string{last}, true))
			expectFailed(t, "full", c.found)(e.Full(t.Context(), true))
		})
	}
}

// expectFailed returns a function that takes what a pass returned.
func expectFailed(t *testing.T, what string, want []string, more ...string) func(Result, error) {
	t.Helper()
	return func(res Result, err error) {
		t.Helper()
		if got := failedPaths(res); err != nil || !slices.Equal(got, append(want, more...)) {
			t.Errorf("%s: failed %q, want %q; %v", what, got, append(want, more...), err)
		}
	}
}

// What is no regular file gets a temporary name that ends in a number.
func TestTemporaryLinks(t *testing.T) {
	needRoot(t)
	e := newHeldEngine(t)
	link := func(to string) {
		for _, name := range []string{"d/l", "d/.k"} {
			path := filepath.Join(e.Source, name)
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if err := os.Symlink(to, path); err != nil {
				t.Fatal(err)
			}
		}
		setTime(t, probeTime, filepath.Join(e.Source, "d"))
	}
	write(t, e.Source, "d/")
	link("old")
	full(t, e)
	link("new")
	immutable(t, filepath.Join(e.Target, "d"))
	want := []string{"d/.k", "d/l"}
	expectFailed(t, "paths", want)(e.Paths(t.Context(), want, true))
	expectFailed(t, "full", want)(e.Full(t.Context(), true))
}

// A daemon says names from the top of its module on.
func TestNamesInModule(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, chroot := range []string{"no", "yes"} {
		for _, below := range []string{"", "/sub", "/sub/../sub/"} {
			t.Run("chroot "+chroot+below, func(t *testing.T) {
				e := newEngine(t)
				module := e.Target
				url := rsynctest.StartDaemon(t, module, "use chroot = "+chroot)
				write(t, e.Source, "d/x=old", "d/sub/d/x=old", "sub/d/x=old", "sub/x=old", "x=old", "(in backup)=old", "d/y\" (in z)=old")
				write(t, module+below, "d/")
				e.Target = url + below
				full(t, e)
				dir := filepath.Join(module, below, "d")
				immutable(t, dir)
				write(t, e.Source, "d/x=newer", "d/y\" (in z)=newer")
				want := []string{"d/x", "d/y\" (in z)"}
				expectFailed(t, "paths", want)(e.Paths(t.Context(), want, true))
				expectFailed(t, "full", want)(e.Full(t.Context(), true))
			})
		}
	}
}

// Where the target's own path is not known, every end of the path that leads somewhere is charged.
func TestNamesAtHome(t *testing.T) {
	e := newEngine(t)
	write(t, e.Source, "sub/d/x=1", "d/x=1", "e/x=1")
	e.Target = "host:sub"
	mkstemp := func(name string) message {
		return parseMessage(`rsync: [receiver] mkstemp "`+name+`" failed: Permission denied (13)`, "")
	}
	names := newNameMap(e, pass{finds: true})
	for name, want := range map[string][]string{
		"/home/sub/d/x":         {"d/x", "sub/d/x"},
		"/home/sub/d/.x.AbCdEf": {"d/x", "sub/d/x"},
		"/home/sub/e/.x.AbCdEf": {"e/x"},
		"/home/sub/f/y":         nil,
		"f/y":                   {"f/y"},
	} {
		if got := names.paths(mkstemp(name)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	names = newNameMap(e, pass{list: []string{"d/x"}})
	if got := names.paths(mkstemp("/home/sub/d/.x.AbCdEf")); !slices.Equal(got, []string{"d/x"}) {
		t.Errorf("listed: %q", got)
	}
}

// A name in parentheses is taken as it is, whatever quotation marks are in it.
func TestQuotesInNames(t *testing.T) {
	needRoot(t)
	gone := []string{`d/a"b"c`, `d/p(q) failed`, `d/q"r`}
	for _, missingArgs := range []bool{true, false} {
		e := newHeldEngine(t)
		e.Capabilities.DeleteMissingArgs = missingArgs
		write(t, e.Source, "b=1", "q=1", "d/stays=1")
		for _, name := range gone {
			write(t, e.Source, name+"=1")
		}
		full(t, e)
		for _, name := range gone {
			immutable(t, filepath.Join(e.Target, name))
			if err := os.Remove(filepath.Join(e.Source, name)); err != nil {
				t.Fatal(err)
			}
		}
		expectFailed(t, "deletions", gone)(e.Deletions(t.Context(), gone))
		expectFailed(t, "directories", gone)(e.Directories(t.Context(), []string{"d"}, true))
		expectFailed(t, "full", gone)(e.Full(t.Context(), true))
	}
}

// A name on the target that only looks like that of a temporary file is not lost over the file that it could be of.
func TestLooksTemporary(t *testing.T) {
	needRoot(t)
	e := newHeldEngine(t)
	write(t, e.Source, "d/x=1")
	full(t, e)
	write(t, e.Target, "d/.x.backup=1", "d/.x.folder/y=1")
	immutable(t, filepath.Join(e.Target, "d/.x.backup"))
	immutable(t, filepath.Join(e.Target, "d/.x.folder"))
	for what, pass := range map[string]func() (Result, error){
		"deletions":   func() (Result, error) { return e.Deletions(t.Context(), []string{"d/.x.backup", "d/.x.folder"}) },
		"directories": func() (Result, error) { return e.Directories(t.Context(), []string{"d"}, true) },
		"full":        func() (Result, error) { return e.Full(t.Context(), true) },
	} {
		res, err := pass()
		if got := failedPaths(res); err != nil || !slices.Contains(got, "d/.x.backup") || !slices.Contains(got, "d/.x.folder/y") {
			t.Errorf("%s: failed %q, %v", what, got, err)
		}
	}
}
