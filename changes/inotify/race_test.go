package inotify

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"rsince/changes"
)

// still watches source, but leaves it to the test to handle events.
func still(t *testing.T, source changes.Source) (*watch, *memory) {
	t.Helper()
	rec := new(memory)
	w := (&Backend{Cookies: tempDir(t)}).watch(source, rec)
	t.Cleanup(func() { do(t, w.release()) })
	do(t, w.open(t.Context()))
	return w, rec
}

// A directory can be met in its new place before the kernel has queued that it moved; fsnotify then
// ends the new watch, and says Rename or Remove of the directory itself.
func TestWatchEndedByFsnotify(t *testing.T) {
	for _, op := range []fsnotify.Op{fsnotify.Rename, fsnotify.Remove} {
		dir := tempDir(t)
		mkdir(t, dir, "a/b")
		w, rec := still(t, changes.Source{Path: dir})
		key := w.keys.path(w.find("a").key)
		do(t, w.fs.Remove(key))
		mkdir(t, dir, "a/c") // unheard
		w.handle(t.Context(), fsnotify.Event{Name: key, Op: op})
		if got := rec.take(); !got.kinds["a"][changes.Subtree] {
			t.Errorf("%v: recorded %v", op, got.highest())
		}
		sameDirectories(t, dir, w)
	}
}

func TestAnotherDirectoryInThePlace(t *testing.T) {
	dir := tempDir(t)
	mkdir(t, dir, "a/b")
	w, _ := still(t, changes.Source{Path: dir})
	do(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "z")))
	mkdir(t, dir, "a/b")
	if f, _, err := w.at(w.find("a"), unix.O_PATH); err != errMoved {
		f.Close()
		t.Errorf("opened another directory: %v", err)
	}
	// An event of the old a/b is handled before that of its removal.
	w.refresh(t.Context(), w.find("a"), "b", false)
	if w.find("a/b") != nil {
		t.Error("the old a/b is taken for the new one")
	}
	if w.unwatched["a/b"] == nil {
		t.Error("that a/b could not be looked at is forgotten")
	}
	before := w.find("a")
	w.refresh(t.Context(), w.root, "a", false)
	if w.find("a") == before || w.find("a/b") == nil {
		t.Error("the old a is taken for the new one")
	}
}

// While b, below a, is being listed, b is moved up and a into it.
func TestDirectoryMetBelowWhatWasBelowIt(t *testing.T) {
	dir := tempDir(t)
	mkdir(t, dir, "a/b")
	w, _ := still(t, changes.Source{Path: dir})
	b := w.find("a/b")
	f, st, err := w.at(b, unix.O_PATH)
	do(t, err)
	defer f.Close()
	do(t, os.Rename(filepath.Join(dir, "a/b"), filepath.Join(dir, "b")))
	do(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b/a")))
	if d := w.meet(f, st, b, "a"); d != nil {
		t.Errorf("%s is below itself", d.name)
	}
	go w.run(t.Context())
	t.Cleanup(func() { <-w.done })
	drainNow(t, w)
	sameDirectories(t, dir, w)
}

// A directory that was swapped for a symlink after it was listed must not be watched through it.
func TestSymlinkInThePlace(t *testing.T) {
	dir, outside := tempDir(t), tempDir(t)
	mkdir(t, dir, "a/b")
	mkdir(t, outside, "b")
	w, _ := still(t, changes.Source{Path: dir})
	do(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "z")))
	do(t, os.Symlink(outside, filepath.Join(dir, "a")))
	for _, path := range []string{"a", "a/b"} {
		if f, _, err := w.at(w.find(path), unix.O_PATH); err == nil {
			f.Close()
			t.Errorf("%s was opened through a symlink", path)
		}
	}
	w.scan(t.Context(), w.find("a"), w.add)
	if w.find("a") != nil {
		t.Error("a symlink is taken for a directory")
	}
}

// A full queue swallows the event of a cookie too.
func TestCookieLost(t *testing.T) {
	w, rec := still(t, changes.Source{Path: tempDir(t)})
	lost := drain{answer: make(chan error, 1)}
	w.cookies.waiting["never made"] = lost
	w.fs.Errors <- fsnotify.ErrEventOverflow
	go w.run(t.Context())
	t.Cleanup(func() { <-w.done })
	do(t, <-lost.answer)
	if gaps := rec.take().gaps; len(gaps) != 1 || gaps[0].Subtree != "." {
		t.Errorf("gaps: %v", gaps)
	}
}
