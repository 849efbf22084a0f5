package rsync

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/testscripts/disk"
)

// linked makes one file of names in the source, with content.
func linked(t *testing.T, e *Engine, content string, names ...string) {
	t.Helper()
	write(t, e.Source, names[0]+"="+content)
	for _, name := range names[1:] {
		write(t, e.Source, filepath.Dir(name)+"/")
		if err := os.Link(filepath.Join(e.Source, names[0]), filepath.Join(e.Source, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// linksAndRewrite brings groups over and then changes their content behind the same size and time.
func linksAndRewrite(t *testing.T, e *Engine, groups ...[]string) {
	t.Helper()
	for _, names := range groups {
		linked(t, e, strings.Repeat("old\n", 50_000), names...)
		setTime(t, probeTime, filepath.Join(e.Source, names[0]))
	}
	full(t, e)
	run(t, func() (Result, error) { return e.Links(t.Context(), groups, true) })
	for _, names := range groups {
		write(t, e.Source, names[0]+"="+strings.Repeat("new\n", 50_000))
		setTime(t, probeTime, filepath.Join(e.Source, names[0]))
	}
}

func isNew(t *testing.T, e *Engine, name string) bool {
	return strings.HasPrefix(target(t, e, name), "new\n")
}

// rsync -H passes over the other names of a file in silence when the one that it copies fails. They arrive all the
// same, linked with each other.
func TestLinksWithoutOneName(t *testing.T) {
	needRoot(t)
	group := []string{"a/w", "a/x", "b/y", "c/z"}
	for fails, want := range map[string][]string{"a": group[:2], "b": group[2:3], "c": group[3:]} {
		t.Run(fails, func(t *testing.T) {
			e := newEngine(t)
			linksAndRewrite(t, e, group, []string{"a/other", "d/other"}, []string{"d/fine", "e/fine"})
			immutable(t, filepath.Join(e.Target, fails))
			if fails == "a" {
				want = append([]string{"a/other"}, want...)
			}
			res, err := e.Links(t.Context(), [][]string{group, {"a/other", "d/other"}, {"d/fine", "e/fine"}}, true)
			expectFailed(t, "links", want)(res, err)
			if res.Done != 8-len(want) {
				t.Errorf("done %d", res.Done)
			}
			var arrived []string
			for _, name := range append([]string{"d/other", "e/fine"}, group...) {
				if isNew(t, e, name) == slices.Contains(want, name) {
					t.Errorf("%s new: %v", name, isNew(t, e, name))
				}
				if slices.Contains(group, name) && !slices.Contains(want, name) {
					arrived = append(arrived, filepath.Join(e.Target, name))
				}
			}
			for _, name := range arrived {
				if !sameFile(arrived[0], name) {
					t.Errorf("%s and %s are not linked", arrived[0], name)
				}
			}
		})
	}
}

// A name that goes away while rsync is at work is no failure, and the others arrive.
func TestLinksVanished(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	group := []string{"m/x", "n/y", "o/z"}
	linksAndRewrite(t, e, group)
	res, err := during(t, e, func() (Result, error) {
		return e.Links(t.Context(), [][]string{{"a"}, group, {"z"}}, true)
	}, func() {
		if err := os.Remove(filepath.Join(e.Source, "m/x")); err != nil {
			t.Error(err)
		}
	})
	if err != nil || len(res.Failed) > 0 || !slices.Equal(res.Vanished, []string{"m/x"}) || res.Done != 4 {
		t.Errorf("%+v, %v", res, err)
	}
	if !isNew(t, e, "n/y") || !sameFile(filepath.Join(e.Target, "n/y"), filepath.Join(e.Target, "o/z")) || target(t, e, "z") != "1" {
		t.Error("the others did not arrive")
	}
}

// Names that all fail one after the other are not tried for ever, and count as failed with the ones that were not reached.
func TestLinksGiveUp(t *testing.T) {
	needRoot(t)
	e := newEngine(t)
	var group []string
	for i := range 40 {
		group = append(group, fmt.Sprintf("a/%02d", i))
	}
	group = append(group, "b/last")
	linked(t, e, "old", group...)
	run(t, func() (Result, error) { return e.Links(t.Context(), [][]string{group}, true) })
	immutable(t, filepath.Join(e.Target, "a"))
	write(t, e.Source, group[0]+"=new", "z=1")
	res, err := e.Links(t.Context(), [][]string{group, {"z"}}, true)
	expectFailed(t, "links", group)(res, err)
	if res.Done != 1 || target(t, e, "z") != "1" {
		t.Errorf("done %d", res.Done)
	}
}

// hlink.c says of a name that it cannot link only what it was to be linked with.
func TestLinksStatLeader(t *testing.T) {
	e := newEngine(t)
	linksAndRewrite(t, e, []string{"a/x", "b/y"})
	e.Program = filepath.Join(filepath.Dir(e.Source), "rsync")
	script := `#!/bin/sh
list=$(mktemp)
cat >"$list"
if tr '\0' '\n' <"$list" | grep -qx './a/x'; then
	echo 'rsync: [generator] stat "` + e.Target + `/a/x" failed: No such file or directory (2)' >&2
	rm "$list"
	exit 23
fi
rsync "$@" <"$list"
status=$?
rm "$list"
exit $status
`
	if err := os.WriteFile(e.Program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	expectFailed(t, "links", []string{"a/x"})(e.Links(t.Context(), [][]string{{"a/x", "b/y"}}, true))
	if !isNew(t, e, "b/y") {
		t.Error("the other name did not arrive")
	}
}

// The attributes of a file are those of all of its names, which stay linked.
func TestLinksAttributes(t *testing.T) {
	e := newEngine(t)
	mount(t, "tmpfs", e.Source, "tmpfs", 0, "")
	disk.On(t, e.Target, "ext4")
	linked(t, e, "new\n", "a/x", "b/y", "c/z")
	if err := unix.Setxattr(filepath.Join(e.Source, "a/x"), "user.large", make([]byte, 60_000), 0); err != nil {
		t.Skip(err)
	}
	group := []string{"a/x", "b/y", "c/z"}
	res, err := e.Links(t.Context(), [][]string{group}, true)
	expectFailed(t, "links", group)(res, err)
	for _, f := range res.Failed {
		if !f.OfAttributes() {
			t.Errorf("%+v", f)
		}
	}
	if !isNew(t, e, "c/z") || !sameFile(filepath.Join(e.Target, "a/x"), filepath.Join(e.Target, "c/z")) {
		t.Error("not copied, or not linked")
	}
}

// A process that writes to a frozen file system cannot be ended. Nothing may go on beside it.
func TestCannotBeEnded(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	disk.On(t, e.Target, "ext4")
	write(t, e.Source, "f=1", "g=1")
	if out, err := exec.Command("fsfreeze", "--freeze", e.Target).CombinedOutput(); err != nil {
		t.Skipf("fsfreeze: %v: %s", err, out)
	}
	e.Stall = time.Second
	res, err := e.Links(t.Context(), [][]string{{"f"}, {"g"}}, true)
	if out, err := exec.Command("fsfreeze", "--unfreeze", e.Target).CombinedOutput(); err != nil {
		t.Errorf("fsfreeze: %v: %s", err, out)
	}
	if err == nil || !strings.Contains(err.Error(), "cannot be ended") || !errors.Is(err, ErrStalled) || !res.Killed {
		t.Fatalf("%+v, %v", res, err)
	}
	var group processGroup
	if _, err := fmt.Sscanf(err.Error(), "processes of rsync %d ", &group); err != nil {
		t.Error(err)
	}
	for len(group.processes()) > 0 { // they keep the target mounted
		time.Sleep(10 * time.Millisecond)
	}
}

// Whatever was said and seen of an rsync that still has a process, it is not tried again.
func TestNothingBesideALivingProcess(t *testing.T) {
	e := newEngine(t)
	write(t, e.Source, "f=1", "g=1")
	alive := errors.New("processes of rsync 7 cannot be ended")
	held := &stall{path: filepath.Join(e.Source, "f")}
	for name, c := range map[string]struct {
		said string
		err  error
	}{
		"held":     {"", held},
		"fifo":     {"", &stall{path: held.path, fifo: true}},
		"device":   {"attempt to copy device contents without --copy-devices", &ExitError{Code: codeProtocol}},
		"stray":    {"ABORTING due to invalid path from sender: f", &ExitError{Code: codeProtocol}},
		"no links": {`file has vanished: "` + held.path + `"`, nil},
	} {
		for _, err := range []error{c.err, errors.Join(alive, c.err)} {
			p := pass{list: []string{"f", "g"}, groups: [][]string{{"f", "g"}}}
			rep := newReport(e, p)
			rep.complaint(c.said)
			if again, want := rep.again(&p, err, 1), err == c.err; again != want {
				t.Errorf("%s, %v: again %v", name, err, again)
			}
		}
	}
}

// TestLinksReplaceDirectory has a directory on the target where the source has another name of a file that
// the target knows already: rsync removes it, and then asks for its default ACL.
func TestLinksReplaceDirectory(t *testing.T) {
	e := newEngine(t)
	linked(t, e, "x", "d/a", "f")
	if out, err := exec.Command("setfacl", "-m", "u:1000:rw", e.Source+"/f").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	full(t, e)
	if err := errors.Join(os.Remove(e.Target+"/d/a"), os.Mkdir(e.Target+"/d/a", 0o755)); err != nil {
		t.Fatal(err)
	}
	res := run(t, func() (Result, error) { return e.Links(t.Context(), [][]string{{"d/a", "f"}}, true) })
	if len(res.Failed) > 0 {
		t.Errorf("failed: %v", res.Failed)
	}
	a, errA := os.Lstat(e.Target + "/d/a")
	f, errF := os.Lstat(e.Target + "/f")
	if errA != nil || errF != nil || !os.SameFile(a, f) {
		t.Errorf("not linked: %v, %v", errA, errF)
	}
}
