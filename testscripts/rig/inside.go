package rig

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// insideEnv is set in the machine of Inside.
const insideEnv = "RSINCE_INSIDE"

// Build builds a package, by these words of the go command, for a machine, in which the race detector finds
// no room.
func Build(t *testing.T, name string, command ...string) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), filepath.Base(name))
	build := exec.Command("go", append(command, "-o", program, name)...)
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	return program
}

// InMachine reports whether this is a machine of Inside.
func InMachine() bool { return os.Getenv(insideEnv) != "" }

// Inside runs the test that calls it again in a machine that it boots, and reports whether this is in there:
//
//	func TestSnapshot(t *testing.T) {
//		if !rig.Inside(t, rig.Machine{Modules: []string{"dm-snapshot"}}, 2*time.Minute) {
//			return
//		}
//
// Outside it fails the test if it has failed there. It is called before the test has subtests.
func Inside(t *testing.T, m Machine, limit time.Duration) bool {
	t.Helper()
	if InMachine() {
		return true
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	program := Build(t, dir, "test", "-c")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	out, exit, err := m.Run(ctx, insideEnv+"=1 exec "+quoted(program)+" -test.v -test.run "+quoted(exactly(t.Name())))
	switch {
	case err != nil || exit != 0:
		t.Errorf("exit code %d, %v; the machine says:\n%s", exit, err, out)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Errorf("the test did not pass in the machine, which says:\n%s", out)
	}
	return false
}

// exactly is the pattern by which a test and its subtests run, and no others.
func exactly(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	return strings.Join(parts, "/")
}
