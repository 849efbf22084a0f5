package inotify

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"rsince/changes"
)

// BenchmarkWatch watches a tree of 4,681 directories with ten files each, or the one that
// RSINCE_BENCH_TREE names.
func BenchmarkWatch(b *testing.B) {
	dir := os.Getenv("RSINCE_BENCH_TREE")
	if dir == "" {
		dir = b.TempDir()
		grow(b, dir, 4)
	}
	backend := &Backend{Cookies: b.TempDir()}
	directories := 0
	for b.Loop() {
		w, err := backend.Watch(b.Context(), changes.Source{Path: dir, OneFileSystem: true}, new(memory))
		if err != nil {
			b.Fatal(err)
		}
		directories = len(w.(*watch).byKey)
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*directories), "ns/directory")
	b.ReportMetric(float64(directories), "directories")
}

func grow(b *testing.B, dir string, levels int) {
	for i := range 10 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 8 {
		sub := filepath.Join(dir, fmt.Sprint("directory", i))
		if levels == 0 {
			return
		}
		if err := os.Mkdir(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		grow(b, sub, levels-1)
	}
}
