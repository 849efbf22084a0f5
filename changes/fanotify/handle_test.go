package fanotify

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/testscripts/disk"
)

func TestTemporaryFileLinked(t *testing.T) {
	g := open(t)
	dir := disk.New(t, "ext4")
	w, rec := watchSource(t, g, changes.Source{Path: dir, OneFileSystem: true})
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	put(t, fd)
	expect(t, w, rec, "")
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, dir+"/named", unix.AT_SYMLINK_FOLLOW); err != nil {
		t.Fatal(err)
	}
	expect(t, w, rec, "named content")
	put(t, fd)
	drain(t, w)
	// The kernel names it #INODE for ever; its name is found if it is in the dentry cache.
	if got := rec.take(); got != "named content" && got != "file" {
		t.Errorf("got:\n%s", got)
	}
}

// TestOpenByHandle writes to a file that no dentry leads to, as an NFS server does.
func TestOpenByHandle(t *testing.T) {
	g := open(t)
	dir := disk.New(t, "ext4")
	shell(t, dir, `mkdir -p src/d out; echo x >src/d/f; echo x >out/f`)
	for path, want := range map[string]string{"src/d/f": "file", "out/f": "file"} {
		h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, filepath.Join(dir, path), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0); err != nil {
			t.Skip(err)
		}
		w, rec := watchSource(t, g, changes.Source{Path: dir + "/src", OneFileSystem: true})
		mount, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.OpenByHandleAt(mount, h, unix.O_WRONLY|unix.O_CLOEXEC)
		unix.Close(mount)
		if err != nil {
			t.Fatal(err)
		}
		put(t, fd)
		drain(t, w)
		if got := rec.take(); got != want {
			t.Errorf("%s: got:\n%s\nwant:\n%s", path, got, want)
		}
		unix.Close(fd)
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestLinkOutside(t *testing.T) {
	g := open(t)
	dir := disk.New(t, "ext4")
	shell(t, dir, `mkdir src out; echo x >out/f; echo x >out/single`)
	w, rec := watchSource(t, g, changes.Source{Path: dir + "/src", OneFileSystem: true})
	shell(t, dir, `echo x >>out/f; echo x >>out/single`)
	expect(t, w, rec, "")
	shell(t, dir, `ln out/f src/f`)
	expect(t, w, rec, "f content")
	shell(t, dir, `echo x >>out/f; echo x >>out/single`)
	expect(t, w, rec, "f content\nfile")
	shell(t, dir, `chmod 600 out/f`)
	expect(t, w, rec, "f attributes\nfile")
	shell(t, dir, `rm src/f; echo x >>out/f`)
	expect(t, w, rec, "f gone")
}

// TestOutsideBroughtIn changes a file by a name that it had outside, after it was seen there with one link and was
// then moved into the source.
func TestOutsideBroughtIn(t *testing.T) {
	g := open(t)
	for _, move := range []string{`mv out/d/f src/f`, `mv out/d src/d`} {
		dir := disk.New(t, "ext4")
		shell(t, dir, `mkdir -p src out/d; echo x >out/old`)
		fd, err := unix.Open(dir+"/out/old", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		w, rec := watchSource(t, g, changes.Source{Path: dir + "/src", OneFileSystem: true})
		shell(t, dir, `ln out/old out/d/f; rm out/old`)
		expect(t, w, rec, "")
		shell(t, dir, `echo x >>out/d/f`)
		expect(t, w, rec, "")
		shell(t, dir, move)
		drain(t, w)
		rec.take()
		if err := unix.Fchmod(fd, 0o600); err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		drain(t, w)
		// Its name is told if it is in the dentry cache.
		if got := rec.take(); !strings.HasSuffix(got, "f attributes") && got != "file" {
			t.Errorf("%s: got:\n%s", move, got)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDeepPath(t *testing.T) {
	g := open(t)
	dir := disk.New(t, "ext4")
	w, rec := watchSource(t, g, changes.Source{Path: dir, OneFileSystem: true})
	shell(t, dir, `name=$(printf 'd%.0s' {1..200}); for i in {1..30}; do mkdir $name; cd $name; done`)
	drain(t, w)
	rec.take()
	shell(t, dir, `name=$(printf 'd%.0s' {1..200}); for i in {1..30}; do cd $name; done; echo x >f`)
	drain(t, w)
	got := rec.take()
	path, ok := strings.CutSuffix(got, " subtree")
	if !ok || strings.Contains(path, "\n") || len(path) < 3000 {
		t.Errorf("got:\n%s", got)
	}
}

// TestLinkWithoutPath writes to a file through a name whose path is too long for a system call.
func TestLinkWithoutPath(t *testing.T) {
	g := open(t)
	dir := disk.New(t, "ext4")
	const enter = `name=$(printf 'd%.0s' {1..200}); for i in {1..19}; do mkdir -p $name; cd $name; done; long=$name$name; long=${long:0:250}; `
	shell(t, dir, `echo x >f; `+enter+`ln '`+dir+`/f' $long`)
	w, rec := watchSource(t, g, changes.Source{Path: dir, OneFileSystem: true})
	shell(t, dir, enter+`echo x >>$long`)
	drain(t, w)
	got := rec.take()
	path, ok := strings.CutSuffix(got, " content\nfile")
	if !ok || strings.Contains(path, "\n") || len(path) < unix.PathMax-len(dir) {
		t.Errorf("got:\n%s", got)
	}
}

// put writes to fd.
func put(t testing.TB, fd int) {
	t.Helper()
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Fatal(err)
	}
}
