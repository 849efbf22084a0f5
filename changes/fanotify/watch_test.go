package fanotify

import (
	"os"
	"os/exec"
	"strings"
	"testing"

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

// open returns a Group for the length of the test, which is skipped without the right to it.
func open(t testing.TB) *Group {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("fanotify marks on file systems need root")
	}
	g, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// watchSource watches source for the length of the test and returns what is told about it.
func watchSource(t testing.TB, g *Group, source changes.Source) (changes.Watch, *memory) {
	t.Helper()
	rec := new(memory)
	w, err := g.Watch(t.Context(), source, rec)
	if err != nil {
		t.Fatal(err)
	}
	return w, rec
}

func drain(t testing.TB, w changes.Watch) {
	t.Helper()
	if err := w.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
}
