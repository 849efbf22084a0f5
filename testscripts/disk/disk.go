// Package disk gives tests real file systems: tmpfs, or on loop devices what mkfs makes in sparse images.
package disk

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// size of an image in bytes; mkfs.xfs refuses less than 300 MiB.
const size = 1 << 30

// New returns the mount point of a new file system for the length of the test.
func New(t testing.TB, kind string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	On(t, dir, kind)
	return dir
}

// On mounts a new file system on dir for the length of the test, which is skipped without the right
// to. The kind is "tmpfs", or what mkfs.KIND makes with these options.
func On(t testing.TB, dir, kind string, options ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	if kind == "tmpfs" {
		run(t, "mount", "-t", "tmpfs", "tmpfs", dir)
	} else {
		image := filepath.Join(t.TempDir(), "image")
		Image(t, image, kind, options...)
		run(t, "mount", "-o", "loop", image, dir)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-R", "-l", dir).Run() })
}

// Image makes path an image of a file system, by mkfs.KIND with these options.
func Image(t testing.TB, path, kind string, options ...string) {
	t.Helper()
	Sparse(t, path, size)
	run(t, "mkfs."+kind, append(options, "-q", path)...)
}

// Sparse makes path a file of so many bytes that are not there.
func Sparse(t testing.TB, path string, bytes int64) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, bytes); err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(err)
	}
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
