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

// writerDir names the environment variable that makes the test program the writing one, whose
// slowdown BenchmarkWriter measures.
const writerDir = "RSINCE_TEST_WRITER"

const (
	benchDirs  = 1000
	benchFiles = 100
)

func TestMain(m *testing.M) {
	dir := os.Getenv(writerDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := writeAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// writeAll opens each file, appends to it twice, and closes it.
func writeAll(dir string) error {
	for i := range benchDirs {
		for j := range benchFiles {
			fd, err := unix.Open(fmt.Sprintf("%s/%d/%d", dir, i, j), unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT, 0o644)
			if err != nil {
				return err
			}
			for range 2 {
				if _, err := unix.Write(fd, []byte("line\n")); err != nil {
					return err
				}
			}
			unix.Close(fd)
		}
	}
	return nil
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
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerDir+"="+dir)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return time.Since(start)
}
