package writers

import (
	"context"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rsince/changes"
)

// run runs a program and fails the test with its output if it fails.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// shell runs a script in dir.
func shell(t testing.TB, dir, script string) {
	t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// find looks at the source dir and fails the test if anything was not seen. A process that may not be looked
// at has children that may not be either, until they run another program.
func find(t testing.TB, dir string) (found Found) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("unseen: %q, in order are %q", found.Unseen, refused())
		}
	}()
	until(t, func() bool {
		found = findIn(t, sourceAt(dir))
		return slices.Equal(found.Unseen, refused())
	})
	return found
}

func sourceAt(dir string) changes.Source { return changes.Source{Path: dir, OneFileSystem: true} }

func findIn(t testing.TB, source changes.Source) Found {
	t.Helper()
	found, err := Find(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// refused is what even root may not look at on this machine.
var refused = sync.OnceValue(func() []string {
	found, err := Find(context.Background(), sourceAt("/proc"))
	if err != nil {
		return []string{err.Error()}
	}
	return found.Unseen
})

// expect compares what was found: a line for each file, a path or the word handle.
func expect(t testing.TB, found Found, want string) {
	t.Helper()
	var lines []string
	for _, c := range found.Files {
		if c.Kind != changes.Content || c.Since.IsZero() || (c.Path == "") == (c.Handle == "") {
			t.Errorf("bad change: %+v", c)
		}
		if c.Path == "" {
			lines = append(lines, "handle")
		} else {
			lines = append(lines, c.Path)
		}
	}
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("found:\n%s\nwant:\n%s", got, want)
	}
}

// until waits until it is so.
func until(t testing.TB, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited too long")
		}
	}
}
