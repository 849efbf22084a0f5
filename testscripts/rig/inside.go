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

// InMachine reports whether this is a machine of Inside.
func InMachine() bool { return os.Getenv(insideEnv) != "" }

// Inside runs the test that calls it again in a machine that it boots, and reports whether this is in there:
//
//	func TestSnapshot(t *testing.T) {
//		if !rig.Inside(t, rig.Machine{Modules: []string{"dm-snapshot"}}, 2*time.Minute) {
//			return
//		}
//
// Outside it fails the test if it has failed there. It is called before the test has subtests, and the
// package is built without the race detector, for which a machine has no room.
func Inside(t *testing.T, m Machine, limit time.Duration) bool {
	t.Helper()
	if InMachine() {
		return true
	}
	program := filepath.Join(t.TempDir(), "test")
	build := exec.Command("go", "test", "-c", "-o", program)
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
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
