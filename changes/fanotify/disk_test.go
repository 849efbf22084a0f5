package fanotify

import (
	"os"
	"os/exec"
	"path/filepath"
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

// images are the sparse disk images that mkfs gets, by file system type.
var images = map[string]struct {
	size int64
	mkfs []string
}{
	"ext4":  {64 << 20, []string{"mkfs.ext4", "-q", "-F"}},
	"xfs":   {320 << 20, []string{"mkfs.xfs", "-q", "-f"}},
	"btrfs": {128 << 20, []string{"mkfs.btrfs", "-q", "-f"}},
}

// disk returns the mount point of a new file system of this type, gone after the test.
func disk(t testing.TB, fsType string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	point := filepath.Join(dir, "mnt")
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if fsType == "tmpfs" {
		run(t, "mount", "-t", "tmpfs", "tmpfs", point)
	} else {
		image := filepath.Join(dir, "image")
		makeImage(t, image, fsType)
		run(t, "mount", "-o", "loop", image, point)
	}
	t.Cleanup(func() { exec.Command("umount", "-R", "-l", point).Run() })
	return point
}

func makeImage(t testing.TB, path, fsType string) {
	t.Helper()
	image := images[fsType]
	if _, err := exec.LookPath(image.mkfs[0]); err != nil {
		t.Skip(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, image.size); err != nil {
		t.Fatal(err)
	}
	run(t, image.mkfs[0], append(image.mkfs[1:], path)...)
}
