package rsync

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/sync/rsync/rsynctest"
)

// everything is what a Linux file system such as ext4 keeps.
var everything = Capabilities{
	Xattrs: true, ACLs: true, Owners: true, Permissions: true, Hardlinks: true, Symlinks: true, Specials: true,
	TimeGranularity: time.Nanosecond, DeleteMissingArgs: true, Fsync: true,
}

// newEngine returns an engine between two new directories; what rsync is told and says is in the test's log.
func newEngine(t *testing.T) *Engine {
	t.Helper()
	if _, err := exec.LookPath("rsync"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	e := &Engine{
		Source:       filepath.Join(dir, "source"),
		Target:       filepath.Join(dir, "target"),
		Capabilities: everything,
		Stall:        20 * time.Second,
		Log:          testLog{t},
	}
	for _, dir := range []string{e.Source, e.Target} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// elsewhere runs a test with a target on this machine, over ssh and on a daemon; it gets the directory that the target is.
func elsewhere(t *testing.T, test func(t *testing.T, e *Engine, target string)) {
	needRoot(t)
	t.Run("local", func(t *testing.T) {
		e := newEngine(t)
		test(t, e, e.Target)
	})
	t.Run("ssh", func(t *testing.T) {
		e := newEngine(t)
		server, target := rsynctest.StartSSH(t), e.Target
		e.Options, e.Target = []string{"--rsh=" + server.Shell}, server.Host+":"+target
		test(t, e, target)
	})
	t.Run("daemon", func(t *testing.T) {
		e := newEngine(t)
		target := e.Target
		e.Target = rsynctest.StartDaemon(t, target, "use chroot = yes")
		test(t, e, target)
	})
}

// newHeldEngine returns one that has its source open, as that of a run has.
func newHeldEngine(t *testing.T) *Engine {
	t.Helper()
	e := newEngine(t)
	holdSource(t, e)
	return e
}

func holdSource(t *testing.T, e *Engine) {
	t.Helper()
	dir, err := os.Open(e.Source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	if e.Held, err = Held(dir); err != nil {
		t.Fatal(err)
	}
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", bytes.TrimSuffix(p, []byte("\n")))
	return len(p), nil
}

// write makes files from name=content, directories from names that end in a slash.
func write(t *testing.T, dir string, files ...string) {
	t.Helper()
	for _, line := range files {
		name, content, _ := strings.Cut(line, "=")
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// differences returns what rsync itself finds different between source and target.
func differences(t *testing.T, e *Engine) string {
	t.Helper()
	cmd := exec.Command("rsync", "-aHAXn", "--checksum", "--delete", "-i", "--modify-window=-1", e.Source+"/", e.Target)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestPasses(t *testing.T) {
	e := newHeldEngine(t)
	write(t, e.Source, "a/f=1", "a/b/g=22", "a/b/c/h=333", "odd/\nn=1", "odd/\xff\" -> \"x=1", "#c=1", ";d=1", "-rf=1", "*?=1", "trailing =1")
	res, err := e.Full(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if d := differences(t, e); d != "" {
		t.Errorf("after a full pass:\n%s", d)
	}
	if res.Created != 14 || res.Bytes != 13 || res.Done != 15 {
		t.Errorf("%+v", res)
	}

	write(t, e.Source, "a/f=one", "a/b/g=ww", "new/x=1", "#c=2", ";d=2", "-rf=2", "*?=2", "odd/\nn=2", "odd/\xff\" -> \"x=2")
	if err := os.RemoveAll(filepath.Join(e.Source, "a/b/c")); err != nil {
		t.Fatal(err)
	}
	write(t, e.Target, "a/b/extra/y=1", "a/extra=1")
	for _, pass := range []func() (Result, error){
		func() (Result, error) {
			return e.Paths(t.Context(), []string{"a/f", "#c", ";d", "-rf", "*?", "odd/\nn", "odd/\xff\" -> \"x"}, true)
		},
		func() (Result, error) { return e.Directories(t.Context(), []string{"a"}, true) },
		func() (Result, error) { return e.Subtrees(t.Context(), []string{"new", "a/b"}) },
		func() (Result, error) { return e.Deletions(t.Context(), []string{"a/b/c"}) },
	} {
		res, err := pass()
		if err != nil || len(res.Failed) > 0 || len(res.Vanished) > 0 {
			t.Fatal(res, err)
		}
	}
	if d := differences(t, e); d != "" {
		t.Errorf("after the passes:\n%s", d)
	}
}

// Field: deletions where the pair of rsyncs cannot do --delete-missing-args.
func TestDeletions(t *testing.T) {
	odd := []string{"top", "#x", "-rf", "a/gone", "a/b*[x]/f", "a/b*[x]/\n", `a/back\slash`, `a/back\sl*ash`, "w/*", `w/\\`, "m"}
	for _, missingArgs := range []bool{true, false} {
		e := newHeldEngine(t)
		e.Capabilities.DeleteMissingArgs = missingArgs
		e.Filters = []string{"--filter=- *.o"}
		write(t, e.Source, "a/b*[x]/stay=1", "a/back=1", "w/stay=1", "a/cameback=new", "stay=1")
		write(t, e.Target, "a/b*[x]/stay=1", "a/back=1", "w/stay=1", "w/other=1", "bystander=1", "a/backXslash=1", "a/cameback=old", "a/bXx/f=1", "m/x.o=1", "m/y=1", "stay=1")
		for _, name := range odd[:len(odd)-1] {
			write(t, e.Target, name+"=1")
		}
		write(t, e.Target, "deep/a/b/c=1", "deep/d=1")
		gone := append([]string{"deep", "a/cameback"}, odd...)
		res, err := e.Deletions(t.Context(), gone)
		if err != nil || len(res.Failed) > 0 || len(res.Vanished) > 0 {
			t.Fatal(res, err)
		}
		for _, name := range gone {
			_, err := os.Lstat(filepath.Join(e.Target, name))
			if exists := err == nil; exists != (name == "m" || name == "a/cameback") {
				t.Errorf("missing args %v: %q exists: %v", missingArgs, name, exists)
			}
		}
		for _, name := range []string{"a/b*[x]/stay", "w/other", "bystander", "a/backXslash", "a/bXx/f", "m/x.o"} {
			if _, err := os.Lstat(filepath.Join(e.Target, name)); err != nil {
				t.Errorf("missing args %v: %v", missingArgs, err)
			}
		}
		if got, _ := os.ReadFile(filepath.Join(e.Target, "a/cameback")); string(got) != "new" {
			t.Errorf("missing args %v: came back as %q", missingArgs, got)
		}
		if len(res.Kept) != 1 || res.Kept[0] != "m" {
			t.Errorf("missing args %v: kept %q", missingArgs, res.Kept)
		}
		if res.Done != len(gone) || res.Deleted != len(gone)-2+1+4 {
			t.Errorf("missing args %v: done %d, deleted %d", missingArgs, res.Done, res.Deleted)
		}
	}
}

// The root itself stands for nothing that is in it, here and on another machine, whatever the filters show.
func TestRootAlone(t *testing.T) {
	elsewhere(t, func(t *testing.T, e *Engine, target string) {
		write(t, e.Source, "listed=1", "name=1", "new=1")
		if err := os.Link(filepath.Join(e.Source, "name"), filepath.Join(e.Source, "other name")); err != nil {
			t.Fatal(err)
		}
		write(t, target, "name=altered", "bystander/x=1")
		at := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
		for i, paths := range [][]string{{"."}, {".", "listed"}} {
			mode := os.FileMode(0o750 - i)
			e.Filters = [][]string{nil, {"--filter=+ /listed", "--filter=- *"}}[i]
			if err := errors.Join(os.Chmod(e.Source, mode), os.Chtimes(e.Source, at, at)); err != nil {
				t.Fatal(err)
			}
			res, err := e.Paths(t.Context(), paths, true)
			if err != nil || len(res.Failed) > 0 || res.Done != len(paths) {
				t.Fatalf("%+v, %v", res, err)
			}
			info, err := os.Stat(target)
			if err != nil || info.Mode().Perm() != mode || !info.ModTime().Equal(at) {
				t.Errorf("%q: %v, %v", paths, info, err)
			}
		}
		if got, _ := os.ReadFile(filepath.Join(target, "name")); string(got) != "altered" {
			t.Errorf("what was not listed became %q", got)
		}
		if got := strings.Join(names(t, target), " "); got != "bystander listed name" {
			t.Errorf("the target holds %s", got)
		}
	})
}

// names lists a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// Filters keep names on the target in every pass, here and on another machine; and what is beside listed names, or in
// listed directories, stays there.
func TestFiltersTravel(t *testing.T) {
	for _, missingArgs := range []bool{true, false} {
		elsewhere(t, func(t *testing.T, e *Engine, target string) {
			e.Capabilities.DeleteMissingArgs = missingArgs
			e.Filters = []string{"--filter=P /own/**", "--filter=- *.o"}
			write(t, e.Source, "file=1", "d/new=1", "d/file=1", "linked=1", "own=1")
			err := errors.Join(os.Link(filepath.Join(e.Source, "linked"), filepath.Join(e.Source, "d/linked")), unix.Mkfifo(filepath.Join(e.Source, "fifo"), 0o600),
				os.Symlink("/tmp", filepath.Join(e.Source, "symlink")))
			if err != nil {
				t.Fatal(err)
			}
			kept := []string{"file/x.o", "d/file/y/x.o", "linked/x.o", "fifo/x.o", "symlink/x.o", "gone/x.o", "gone/y/x.o"}
			beside := []string{"extra", "d/extra", "d/sub/extra", "extra.d/x", "own/x"}
			for _, name := range slices.Concat(kept, beside, []string{"file/x", "gone/x", "gone/y/z/x"}) {
				write(t, target, name+"=1")
			}
			var total Result
			for _, pass := range []func() (Result, error){
				func() (Result, error) {
					return e.Paths(t.Context(), []string{".", "d", "d/file", "d/new", "file", "fifo", "symlink"}, true)
				},
				func() (Result, error) {
					return e.Links(t.Context(), [][]string{{"d/linked", "linked"}}, true)
				},
				func() (Result, error) { return e.Deletions(t.Context(), []string{"gone", "d/gone"}) },
			} {
				res, err := pass()
				total.Add(res)
				if err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(failedPaths(total), " "); got != "d/file fifo file linked symlink" {
				t.Errorf("failed: %s", got)
			}
			for _, name := range append(kept, beside...) {
				if _, err := os.Lstat(filepath.Join(target, name)); err != nil {
					t.Errorf("missing args %v: %v", missingArgs, err)
				}
			}
			for name, there := range map[string]bool{"d/new": true, "d/linked": true, "file/x": false, "gone/x": false, "gone/y/z": false} {
				if _, err := os.Lstat(filepath.Join(target, name)); (err == nil) != there {
					t.Errorf("missing args %v: %s: %v", missingArgs, name, err)
				}
			}
			res, err := e.Full(t.Context(), false)
			if got := strings.Join(failedPaths(res), " "); err != nil || got != "d/file fifo file linked own symlink" {
				t.Errorf("failed: %s, %v", got, err)
			}
			for _, name := range append(kept, beside...) {
				if _, err := os.Lstat(filepath.Join(target, name)); err != nil {
					t.Errorf("missing args %v: after a full pass: %v", missingArgs, err)
				}
			}
		})
	}
}
