package changes

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// flipped visits a file with bits of each of its bytes turned, and leaves it as it was.
func flipped(t *testing.T, file string, visit func(i int)) {
	t.Helper()
	data, err := os.ReadFile(file)
	do(t, err)
	for i := range data {
		for _, bits := range []byte{0x01, 0x80, 0xff} {
			turned := slices.Clone(data)
			turned[i] ^= bits
			do(t, os.WriteFile(file, turned, 0o600))
			visit(i)
		}
	}
	do(t, os.WriteFile(file, data, 0o600))
}

// TestFlippedHeartbeat: a damaged one does not make the next gap shorter.
func TestFlippedHeartbeat(t *testing.T) {
	dir := memoryDir(t)
	known := time.Now().Truncate(0)
	do(t, setKnownUntil(dir, known))
	flipped(t, filepath.Join(dir, "known"), func(i int) {
		if got := KnownUntil(dir); !got.IsZero() {
			t.Errorf("byte %d: known until %v", i, got)
		}
	})
	if got := KnownUntil(dir); !got.Equal(known) {
		t.Errorf("whole, it says %v, want %v", got, known)
	}
}

// TestFlippedBatch: a batch whose file was damaged after it was taken is not acknowledged, and what came
// later is not taken for a part of it.
func TestFlippedBatch(t *testing.T) {
	dir := memoryDir(t)
	j := open(t, dir)
	j.Record("a", Content)
	batch := cutOf(t, j)
	for i := range 10 {
		do(t, Add(dir, []Change{{Path: string(rune('b' + i)), Kind: Content}}))
	}
	flipped(t, filepath.Join(dir, "batch"), func(i int) {
		if _, err := load(dir, batch.ID); !errors.Is(err, errLineDamaged) {
			t.Errorf("byte %d: loading it: %v", i, err)
		}
		if err := batch.Acknowledge(nil); !errors.Is(err, errLineDamaged) {
			t.Fatalf("byte %d: acknowledging it: %v", i, err)
		}
	})
	if got := pendingPaths(t, dir); len(got) != 11 {
		t.Errorf("pending: %q", got)
	}
	do(t, os.WriteFile(filepath.Join(dir, "batch"), []byte("rubbish"), 0o600))
	if again := cutOf(t, j); len(again.Changes) != 11 {
		t.Errorf("the next cut takes %q", pathsOf(again.Changes))
	}
}
