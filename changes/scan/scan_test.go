package scan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func do(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// randomTree makes about n entries of all types below dir.
func randomTree(t testing.TB, dir string, r *rand.Rand, n int) {
	t.Helper()
	dirs := []string{dir}
	for i := range n {
		name := []string{"f", "new\nline", "\xff\xfe", "-rf", " ", "#;*?[", strings.Repeat("n", 240)}[r.IntN(7)] + fmt.Sprint(i)
		path := dirs[r.IntN(len(dirs))] + "/" + name
		switch r.IntN(8) {
		case 0, 1:
			do(t, os.Mkdir(path, 0o700))
			if len(path) < 3000 {
				dirs = append(dirs, path)
			}
		case 2:
			do(t, os.Symlink(dir, path))
		case 3:
			do(t, unix.Mkfifo(path, 0o600))
		default:
			do(t, os.WriteFile(path, []byte(name), 0o600))
		}
	}
}

// collect runs Walk or Names and gives what was visited, by path; nothing may come twice.
func collect(t testing.TB, walk func(context.Context, func(Entry)) error) (map[string]Entry, error) {
	t.Helper()
	var mu sync.Mutex
	all := map[string]Entry{}
	err := walk(t.Context(), func(e Entry) {
		mu.Lock()
		defer mu.Unlock()
		if _, twice := all[e.Path]; twice {
			t.Errorf("%q was visited twice", e.Path)
		}
		all[e.Path] = e
	})
	return all, err
}

// oracle does with filepath.WalkDir what Walk does.
func oracle(t *testing.T, tree Tree) map[string]Entry {
	t.Helper()
	all := map[string]Entry{}
	do(t, filepath.WalkDir(tree.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == tree.Root {
			return err
		}
		rel := path[len(tree.Root)+1:]
		if tree.Prune != nil && tree.Prune(rel, d.IsDir()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		all[rel] = Entry{Path: rel, Inode: st.Ino, Type: uint8(st.Mode & unix.S_IFMT >> 12)}
		if d.IsDir() && tree.Flat {
			return fs.SkipDir
		}
		return nil
	}))
	return all
}

func TestWalkAgainstWalkDir(t *testing.T) {
	for seed := range uint64(4) {
		root := t.TempDir()
		randomTree(t, root, rand.New(rand.NewPCG(seed, 2)), 1000)
		prune := func(path string, dir bool) bool { return strings.HasSuffix(path, "7") == dir }
		for _, tree := range []Tree{{Root: root}, {Root: root, Flat: true}, {Root: root, Prune: prune}, {Root: root, Flat: true, Prune: prune}} {
			want := oracle(t, tree)
			names, err := collect(t, tree.Names)
			do(t, err)
			if !maps.Equal(names, want) {
				t.Errorf("seed %d: names are not the same: %d, want %d", seed, len(names), len(want))
			}
			walked, err := collect(t, tree.Walk)
			do(t, err)
			for path, e := range walked {
				var st unix.Stat_t
				do(t, unix.Lstat(root+"/"+path, &st))
				if e.Stat.Ino != st.Ino || e.Stat.Size != st.Size || e.Stat.Mtim != st.Mtim || e.Stat.Mode != st.Mode {
					t.Errorf("%q: metadata are not its own", path)
				}
				if id, _ := IdentityOf(unix.AT_FDCWD, root+"/"+path); e.Type == unix.DT_DIR && (id == 0 || e.Identity != id) {
					t.Errorf("%q: identity %x, want %x", path, e.Identity, id)
				}
				e.Stat, e.Identity = unix.Stat_t{}, 0
				walked[path] = e
			}
			if !maps.Equal(walked, want) {
				t.Errorf("seed %d: walk is not the same: %d, want %d", seed, len(walked), len(want))
			}
		}
	}
}

func TestWalkWhileItVanishes(t *testing.T) {
	root := t.TempDir()
	var coming sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for worker := range 2 {
		coming.Go(func() {
			top := fmt.Sprintf("%s/%d", root, worker)
			for ctx.Err() == nil {
				os.MkdirAll(top+"/a/b/c", 0o700)
				os.WriteFile(top+"/a/b/f", nil, 0o600)
				os.RemoveAll(top)
				os.Symlink("/", top) // a walk must not follow it
				os.Remove(top)
				os.WriteFile(top, nil, 0o600)
				os.Remove(top)
			}
		})
	}
	do(t, os.Mkdir(root+"/stays", 0o700))
	for range 2000 {
		all, err := collect(t, Tree{Root: root}.Walk)
		do(t, err)
		if _, ok := all["stays"]; !ok || len(all) > 11 {
			t.Fatalf("visited %d entries", len(all))
		}
	}
	cancel()
	coming.Wait()
}

func TestWalkRoot(t *testing.T) {
	dir := t.TempDir()
	do(t, os.WriteFile(dir+"/file", nil, 0o600))
	if err := (Tree{Root: dir + "/none"}).Walk(t.Context(), nil); !errors.Is(err, unix.ENOENT) {
		t.Errorf("missing root: %v", err)
	}
	if err := (Tree{Root: dir + "/file"}).Names(t.Context(), nil); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("file as root: %v", err)
	}
}

// TestWalkUnreadable becomes an ordinary user, on a thread of its own, since root may read all.
func TestWalkUnreadable(t *testing.T) {
	root := t.TempDir()
	do(t, os.MkdirAll(root+"/open/below", 0o755))
	do(t, os.MkdirAll(root+"/closed/below", 0o755))
	do(t, os.MkdirAll(root+"/listed/below", 0o755))
	do(t, os.Chmod(root+"/closed", 0))
	do(t, os.Chmod(root+"/listed", 0o444)) // its names, but nothing of what they name
	do(t, os.Chmod(root, 0o755))
	do(t, os.Chmod(filepath.Dir(root), 0o755))
	defer os.Chmod(root+"/closed", 0o700)
	defer os.Chmod(root+"/listed", 0o700)
	var seen []string
	r := reader{Tree: Tree{Root: root}, buf: make([]byte, 32<<10)}
	r.take = func(dir int, e *Entry) error {
		if err := e.stat(dir); err != nil {
			return err
		}
		seen = append(seen, e.Path)
		return nil
	}
	var errs []error
	asNobody(t, func() {
		fd, err := unix.Open(root, unix.O_PATH, 0)
		if err != nil {
			errs = append(errs, err)
			return
		}
		defer unix.Close(fd)
		r.root = fd
		for dirs := []string{"."}; len(dirs) > 0; dirs = dirs[1:] {
			below, failed := r.read(t.Context(), dirs[0])
			dirs, errs = append(dirs, below...), append(errs, failed...)
		}
	})
	if got := strings.Join(seen, " "); len(seen) != 4 || !strings.Contains(got, "open/below") {
		t.Errorf("visited %q", got)
	}
	if len(errs) != 2 || !errors.Is(errs[0], unix.EACCES) || !errors.Is(errs[1], unix.EACCES) {
		t.Errorf("errors %v", errs)
	}
}

// asNobody runs f as an ordinary user. The thread is not used again.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	done := make(chan unix.Errno)
	go func() {
		runtime.LockOSThread()
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534)
		if errno == 0 {
			f()
		}
		done <- errno
	}()
	if errno := <-done; errno != 0 {
		t.Skipf("becoming another user: %v", errno)
	}
}

func TestWalkCancelled(t *testing.T) {
	root := t.TempDir()
	for i := range 200 {
		do(t, os.MkdirAll(fmt.Sprintf("%s/%d/below", root, i), 0o700))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	seen := 0
	err := Tree{Root: root}.Walk(ctx, func(Entry) {
		mu.Lock()
		defer mu.Unlock()
		if seen++; seen == 201 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || seen == 400 {
		t.Errorf("%d visited, %v", seen, err)
	}
}

func TestManyErrors(t *testing.T) {
	q := &queue{}
	q.more.L = &q.mu
	for range 3 * maxErrors {
		q.done(nil, []error{fs.ErrPermission, fs.ErrPermission})
	}
	if len(q.errs) != maxErrors {
		t.Errorf("%d errors kept", len(q.errs))
	}
}

// BenchmarkWalk reads a tree of 100,000 files with metadata: by Walk, by Names without, and in a
// plain loop.
func BenchmarkWalk(b *testing.B) {
	root := b.TempDir()
	for d := range 10_000 {
		dir := fmt.Sprintf("%s/%d/%d", root, d/100, d%100)
		do(b, os.MkdirAll(dir, 0o700))
		for f := range 10 {
			do(b, os.WriteFile(fmt.Sprint(dir, "/", f), nil, 0o600))
		}
	}
	b.Run("Walk", func(b *testing.B) {
		for b.Loop() {
			do(b, Tree{Root: root}.Walk(b.Context(), func(Entry) {}))
		}
	})
	b.Run("Names", func(b *testing.B) {
		for b.Loop() {
			do(b, Tree{Root: root}.Names(b.Context(), func(Entry) {}))
		}
	})
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			do(b, filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
				if err == nil {
					_, err = d.Info()
				}
				return err
			}))
		}
	})
}
