package writers

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
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

// find looks at the source dir and fails the test if anything was not seen.
func find(t testing.TB, dir string) Found {
	t.Helper()
	found := findIn(t, sourceAt(dir))
	if !slices.Equal(found.Unseen, refused()) {
		t.Errorf("unseen: %q", found.Unseen)
	}
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

// images are the sparse disk images that mkfs gets, by file system type.
var images = map[string]struct {
	size int64
	mkfs []string
}{
	"ext4":  {64 << 20, []string{"mkfs.ext4", "-q", "-F"}},
	"xfs":   {320 << 20, []string{"mkfs.xfs", "-q", "-f"}},
	"btrfs": {128 << 20, []string{"mkfs.btrfs", "-q", "-f"}},
}

// needRoot skips the test without it.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting, and looking at what others hold open, needs root")
	}
}

// disk returns the mount point of a new file system of this type, gone after the test.
func disk(t testing.TB, fsType string) string {
	t.Helper()
	needRoot(t)
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
