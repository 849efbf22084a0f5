package fanotify

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

// writerDir names the environment variable that makes TestWriter the writing program.
const writerDir = "RSINCE_TEST_WRITER"

const (
	benchDirs  = 1000
	benchFiles = 100
)

// TestWriter is the program whose slowdown BenchmarkWriter measures.
func TestWriter(t *testing.T) {
	dir := os.Getenv(writerDir)
	if dir == "" {
		t.Skip("only run by BenchmarkWriter")
	}
	start := time.Now()
	for i := range benchDirs {
		for j := range benchFiles {
			path := fmt.Sprintf("%s/%d/%d", dir, i, j)
			fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := unix.Write(fd, []byte("line\n")); err != nil {
					t.Fatal(err)
				}
			}
			unix.Close(fd)
		}
	}
	t.Logf("wrote for %v", time.Since(start))
}

// BenchmarkWriter measures how long another process takes for 100,000 × open, append, append, close,
// unwatched and watched.
func BenchmarkWriter(b *testing.B) {
	g := open(b)
	root := b.TempDir()
	for i := range benchDirs {
		if err := os.Mkdir(filepath.Join(root, fmt.Sprint(i)), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	write(b, root)
	var unwatched, watched time.Duration
	for b.Loop() {
		unwatched += write(b, root)
		w, rec := watchSource(b, g, changes.Source{Path: root, OneFileSystem: true})
		watched += write(b, root)
		start := time.Now()
		drain(b, w)
		b.ReportMetric(float64(time.Since(start).Microseconds()), "µs/drain")
		if err := w.Close(); err != nil {
			b.Error(err)
		}
		if len(rec.paths) != benchDirs*benchFiles {
			b.Errorf("%d paths recorded, want %d", len(rec.paths), benchDirs*benchFiles)
		}
	}
	b.ReportMetric(unwatched.Seconds()/float64(b.N), "s/unwatched")
	b.ReportMetric(watched.Seconds()/float64(b.N), "s/watched")
	b.ReportMetric(watched.Seconds()/unwatched.Seconds(), "×")
	b.ReportMetric(0, "ns/op") // of everything around it, too: says nothing
}

// write runs the writer and returns how long it took.
func write(b *testing.B, dir string) time.Duration {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestWriter$")
	cmd.Env = append(os.Environ(), writerDir+"="+dir)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return time.Since(start)
}
