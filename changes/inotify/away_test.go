package inotify

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

// What happens above the source has no event, and can be undone before anyone looks.
func TestMadeWhileTheSourceWasAway(t *testing.T) {
	tests := []struct {
		name  string
		leave func(parent string) error
		back  func(parent string) error
	}{
		{"nothing in its place",
			func(parent string) error { return os.Rename(parent, parent+"-away") },
			func(parent string) error { return os.Rename(parent+"-away", parent) }},
		{"a file of the same name in its place",
			func(parent string) error {
				return errors.Join(os.Rename(parent, parent+"-away"), os.MkdirAll(parent+"/source/d", 0o755),
					os.WriteFile(parent+"/source/new", nil, 0o600), os.WriteFile(parent+"/source/d/new", nil, 0o600))
			},
			func(parent string) error { return errors.Join(os.RemoveAll(parent), os.Rename(parent+"-away", parent)) }},
		{"closed to this user, unless it is root",
			func(parent string) error { return os.Chmod(parent, 0) },
			func(parent string) error { return os.Chmod(parent, 0o755) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			parent := mkdir(t, tempDir(t), "parent")
			dir := filepath.Join(parent, "source")
			mkdir(t, dir, "d")
			w, rec := still(t, changes.Source{Path: dir})
			inside, err := os.OpenRoot(dir)
			do(t, err)
			defer inside.Close()
			do(t, test.leave(parent), inside.Mkdir("new", 0o755), inside.Mkdir("d/new", 0o755))
			for range 2 {
				w.handle(t.Context(), <-w.fs.Events)
			}
			do(t, test.back(parent))
			go w.run(t.Context())
			t.Cleanup(func() { <-w.done })
			drain := drainer(t, w, rec)
			got := drain()
			for _, path := range []string{"new/f", "d/new/f"} {
				if !got.covers(path) {
					t.Errorf("%s is not covered: recorded %v, gaps %v", path, got.highest(), got.gaps)
				}
			}
			probe(t, dir, drain)
			sameDirectories(t, dir, w)
		})
	}
}

// The kernel uses the ids of mounts and the numbers of devices again.
func TestRemountedAlike(t *testing.T) {
	for _, at := range []string{".", "m", "m/n"} {
		t.Run(at, func(t *testing.T) {
			dir := tempDir(t)
			point := mkdir(t, dir, at)
			mount(t, "tmpfs", point, "tmpfs", 0)
			mkdir(t, point, "d")
			w, rec := still(t, changes.Source{Path: dir})
			rec.take()
			before := lookAt(t, point)
			for attempt := 0; ; attempt++ {
				do(t, unix.Unmount(point, 0), unix.Mount("tmpfs", point, "tmpfs", 0, ""))
				if lookAt(t, point) == before {
					break
				}
				if attempt == 100 {
					t.Skip("the new mount cannot be made to look like the old one")
				}
			}
			mkdir(t, point, "d")
			go w.run(t.Context())
			t.Cleanup(func() { <-w.done })
			drain := drainer(t, w, rec)
			got := drain()
			if len(got.gaps) == 0 || got.gaps[0].Subtree != at || !got.covers(filepath.Join(at, "d")) {
				t.Errorf("gaps: %v", got.gaps)
			}
			probe(t, dir, drain)
			sameDirectories(t, dir, w)
		})
	}
}

func lookAt(t *testing.T, dir string) stat {
	t.Helper()
	f, err := openDir(dir, unix.O_PATH)
	do(t, err)
	defer f.Close()
	st, err := statAt(int(f.Fd()), "")
	do(t, err)
	return st
}
