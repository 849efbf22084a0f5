package rsync

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/sync/rsync/rsynctest"
	"rsince/testscripts/disk"
	"rsince/testscripts/rig"
)

// probed returns what e.Probe finds, without the versions, and sees that it leaves the target as it was.
func probed(t *testing.T, e *Engine, dir string) Capabilities {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	if err := os.Chtimes(dir, probeTime, probeTime); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(dir); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the target's time was %v: %v, %v", before.ModTime(), after, err)
	}
	entries, err := os.ReadDir(dir)
	entries = slices.DeleteFunc(entries, func(entry os.DirEntry) bool { return entry.Name() == "lost+found" })
	if err != nil || len(entries) > 0 {
		t.Errorf("left on the target: %v, %v", entries, err)
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "rsince-probe-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if got.Version == "" {
		t.Error("no version")
	}
	got.Version = ""
	return got
}

func TestProbe(t *testing.T) {
	needRoot(t)
	e := newEngine(t)
	write(t, e.Target, probePrefix+"KILLED/file=1") // as a killed one leaves it
	got := probed(t, e, e.Target)
	if !reflect.DeepEqual(got, everything) {
		t.Errorf("%+v", got)
	}
	data, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var again Capabilities
	if err := json.Unmarshal(data, &again); err != nil || !reflect.DeepEqual(got, again) {
		t.Errorf("%s came back as %+v, %v", data, again, err)
	}
}

func TestProbeRemote(t *testing.T) {
	needRoot(t)
	t.Run("ssh", func(t *testing.T) {
		e := newEngine(t)
		server := rsynctest.StartSSH(t)
		dir := e.Target
		e.Target, e.Options = server.Host+":"+dir, []string{"--rsh=" + server.Shell}
		got := probed(t, e, dir)
		if got.RemoteVersion == "" {
			t.Error("no remote version")
		}
		got.RemoteVersion = ""
		if !reflect.DeepEqual(got, everything) {
			t.Errorf("%+v", got)
		}
	})
	t.Run("daemon", func(t *testing.T) {
		e := newEngine(t)
		dir := e.Target
		for _, keeps := range []string{"use chroot = yes", "munge symlinks = yes"} {
			e.Target = rsynctest.StartDaemon(t, dir, keeps)
			if got := probed(t, e, dir); !reflect.DeepEqual(got, everything) {
				t.Errorf("%s: %+v", keeps, got)
			}
		}
		e.Target = rsynctest.StartDaemon(t, dir)
		if got := probed(t, e, dir); len(got.GivenUp) != 1 || !strings.Contains(got.GivenUp[0], "lead out of the target") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("unprivileged daemon that refuses things", func(t *testing.T) {
		e := newEngine(t)
		chown(t, e.Target, 65534)
		dir := e.Target
		e.Target = rsynctest.StartDaemon(t, dir, "uid = 65534", "gid = 65534", "refuse options = acls delete-missing-args fsync")
		got := probed(t, e, dir)
		want := everything
		want.ACLs, want.DeleteMissingArgs, want.Fsync, want.Owners, want.UserXattrs = false, false, false, false, true
		want.GivenUp = got.GivenUp
		if !reflect.DeepEqual(got, want) || len(got.GivenUp) != 6 {
			t.Errorf("%+v", got)
		}
		e.Capabilities = got
		write(t, e.Source, "f=1", "d/g=1")
		from, to := filepath.Join(e.Source, "f"), filepath.Join(dir, "f")
		for _, name := range []string{probeXattr, probeRootXattr} {
			if err := unix.Setxattr(from, name, []byte("1"), 0); err != nil {
				t.Fatal(err)
			}
		}
		full(t, e)
		if !sameXattr(from, to, probeXattr) || hasXattr(to, "user.rsync."+probeRootXattr) {
			t.Error("the copy has not the xattrs that it can have, or others")
		}
		if err := os.Remove(filepath.Join(e.Source, "d/g")); err != nil {
			t.Fatal(err)
		}
		run(t, func() (Result, error) { return e.Deletions(t.Context(), []string{"d/g"}) })
		if target(t, &Engine{Target: dir}, "d/g") == "1" || target(t, &Engine{Target: dir}, "f") != "1" {
			t.Error("not copied, or not deleted")
		}
	})
}

// A copy to a file system that keeps less is complete without that, and the next one finds nothing to do.
func TestProbeLesserFileSystems(t *testing.T) {
	t.Run("no xattrs", func(t *testing.T) {
		e := newEngine(t)
		mount(t, "ramfs", e.Target, "ramfs", 0, "")
		want := everything
		want.Xattrs, want.ACLs = false, false
		copyToLesser(t, e, want, 2)
	})
	t.Run("whole seconds", func(t *testing.T) {
		e := newEngine(t)
		disk.On(t, e.Target, "ext4", "-I", "128") // such inodes have no room for more
		want := everything
		want.TimeGranularity = time.Second
		e.Filters = []string{"--filter=- /lost+found"}
		copyToLesser(t, e, want, 1)
	})
}

// Of vfat it is known what it takes names for, and that it keeps nearly nothing.
func TestProbeVFAT(t *testing.T) {
	m := rig.Machine{Modules: []string{"vfat", "nls_cp437", "nls_ascii", "nls_utf8", "nls_iso8859-1"}}
	if !rig.InMachine() {
		if err := rig.Available("mkfs.vfat"); err != nil {
			t.Skip(err)
		}
		m.Disks = []string{filepath.Join(t.TempDir(), "disk")}
		disk.Sparse(t, m.Disks[0], 16<<20)
	}
	if !rig.Inside(t, m, time.Minute) {
		return
	}
	e := newEngine(t)
	if out, err := exec.Command("mkfs.vfat", "/dev/ubda").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mount(t, "/dev/ubda", e.Target, "vfat", 0, "")
	got, err := e.Probe(t.Context())
	if err != nil || got.TimeGranularity != 2*time.Second || got.Symlinks || got.Hardlinks {
		t.Errorf("%+v, %v", got, err)
	}
	for _, what := range []string{"upper and lower case are the same", "dots at the end of names are left out"} {
		if !strings.Contains(strings.Join(got.GivenUp, "\n"), what) {
			t.Errorf("%q is not in %q", what, got.GivenUp)
		}
	}
}

func copyToLesser(t *testing.T, e *Engine, want Capabilities, givenUp int) {
	t.Helper()
	got := probed(t, e, e.Target)
	want.GivenUp = got.GivenUp
	if !reflect.DeepEqual(got, want) || len(got.GivenUp) != givenUp {
		t.Errorf("%+v", got)
	}
	e.Capabilities = got
	write(t, e.Source, "f=1", "d/g=1")
	err := errors.Join(
		unix.Setxattr(filepath.Join(e.Source, "f"), "user.x", []byte("1"), 0),
		unix.Setxattr(filepath.Join(e.Source, "f"), aclXattr, probeACL(), 0))
	if err != nil {
		t.Skip(err)
	}
	full(t, e)
	if res := full(t, e); res.Created+res.Updated+res.Deleted > 0 {
		t.Errorf("copied again: %+v", res)
	}
	if target(t, e, "d/g") != "1" {
		t.Error("not copied")
	}
}

// What rsync refuses is given up; a connection that breaks says nothing of what the other side can do.
func TestProbeBreaks(t *testing.T) {
	needRoot(t)
	e := newEngine(t)
	e.Program = filepath.Join(filepath.Dir(e.Source), "rsync")
	for _, test := range []struct {
		ending string
		refuse bool
	}{
		{"echo 'rsync error: requested action not supported (code 4) at compat.c(1) [Receiver=3.5.0]' >&2; exit 4", true},
		{"echo 'rsync error: error in rsync protocol data stream (code 12) at io.c(1) [sender=3.5.0]' >&2; exit 12", false},
		{"exit 255", false},
	} {
		script := "#!/bin/sh\ncase \"$*\" in *' -A '*) " + test.ending + ";; esac\nexec rsync \"$@\"\n"
		if err := os.WriteFile(e.Program, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		got, err := e.Probe(t.Context())
		if test.refuse != (err == nil) || err == nil && (got.ACLs || !got.Xattrs || !got.Hardlinks) {
			t.Errorf("%s: %+v, %v", test.ending, got, err)
		}
		if left, err := os.ReadDir(e.Target); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", test.ending, left, err)
		}
	}
}

func TestProbeFails(t *testing.T) {
	e := newEngine(t)
	missing := *e
	missing.Target += "/not/there"
	if _, err := missing.Probe(t.Context()); err == nil {
		t.Error("no error for a missing target")
	}
	if _, err := os.Stat(e.Target + "/not"); !errors.Is(err, os.ErrNotExist) {
		t.Error("the target was made")
	}
	mount(t, "tmpfs", e.Target, "tmpfs", unix.MS_RDONLY, "")
	if _, err := e.Probe(t.Context()); !errors.Is(err, ErrReadOnly) {
		t.Errorf("read-only: %v", err)
	}
}

func TestGranularity(t *testing.T) {
	for _, step := range []time.Duration{1, 100, time.Microsecond, time.Millisecond, time.Second, 2 * time.Second} {
		if got := granularity(probeTime.Truncate(step)); got != step {
			t.Errorf("%v: %v", step, got)
		}
	}
	for step, want := range map[time.Duration]string{
		0: "--modify-window=-1", 1: "--modify-window=-1", 100: "--modify-window=0", time.Second: "--modify-window=0", 2 * time.Second: "--modify-window=1",
	} {
		if got := modifyWindow(step); got != want {
			t.Errorf("%v: %s", step, got)
		}
	}
}

// TestProbeFullTarget asks targets that have room for so many files, or pages. What does not fit is not taken for what is
// not kept, and nothing is left behind.
func TestProbeFullTarget(t *testing.T) {
	needRoot(t)
	refused, asked := 0, 0
	for _, room := range []string{"nr_inodes=%d", "size=%dk"} {
		for n := 2; n < 40; n += 2 {
			options := fmt.Sprintf(room, n)
			t.Run(options, func(t *testing.T) {
				e := newEngine(t)
				mount(t, "tmpfs", e.Target, "tmpfs", 0, options)
				got, err := e.Probe(t.Context())
				got.Version = ""
				asked++
				switch {
				case errors.Is(err, ErrTargetFull):
					refused++
				case err != nil || !reflect.DeepEqual(got, everything):
					t.Errorf("%+v, %v", got, err)
				}
				if entries, err := os.ReadDir(e.Target); err != nil || len(entries) > 0 {
					t.Errorf("left on the target: %v, %v", entries, err)
				}
			})
		}
	}
	if refused == 0 || refused == asked {
		t.Errorf("%d of %d were full", refused, asked)
	}
}
