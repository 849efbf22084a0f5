package rsync

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestScratch(t *testing.T) {
	parent := t.TempDir()
	left := filepath.Join(parent, scratchPrefix+"left", "sent")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				dir, release, err := newScratch(parent)
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.Mkdir(filepath.Join(dir, "mine"), 0o700); err != nil {
					t.Errorf("somebody else's: %v", err)
				}
				if err := release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if names, err := os.ReadDir(parent); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}
