package fanotify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rsince/changes"
	"rsince/testscripts/disk"
)

// awaitGap waits for a gap of this subtree whose reason contains the words, and forgets everything
// recorded.
func awaitGap(t testing.TB, rec *memory, subtree, words string) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		rec.mu.Lock()
		for _, gap := range rec.gaps {
			if gap.Subtree == subtree && strings.Contains(gap.Reason, words) {
				rec.mu.Unlock()
				rec.take()
				return
			}
		}
		rec.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatalf("no gap of %s with %q; recorded:\n%s", subtree, words, rec.take())
		}
		time.Sleep(time.Millisecond)
	}
}

// expect drains the watch and compares what was recorded.
func expect(t testing.TB, w changes.Watch, rec *memory, want string) {
	t.Helper()
	drain(t, w)
	if got := rec.take(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestMountsBelow(t *testing.T) {
	g := open(t)
	for _, one := range []bool{true, false} {
		t.Log("one file system:", one)
		dir := disk.New(t, "ext4")
		shell(t, dir, `mkdir -p src/m src/n; echo x >src/m/f; mount -t tmpfs tmpfs src/n; mkdir src/n/sub`)
		w, rec := watchSource(t, g, changes.Source{Path: dir + "/src", OneFileSystem: one})

		shell(t, dir, `echo x >src/n/sub/f; echo x >src/g`)
		if one {
			expect(t, w, rec, "g content")
		} else {
			expect(t, w, rec, "g content\nn/sub/f content")
		}

		shell(t, dir, `mount -t tmpfs tmpfs src/m`)
		awaitGap(t, rec, "m", "mounted")
		shell(t, dir, `echo x >src/m/f`)
		if one {
			expect(t, w, rec, "")
		} else {
			expect(t, w, rec, "m/f content")
		}

		shell(t, dir, `umount src/m; umount src/n`)
		expect(t, w, rec, "m gap: unmounted\nm subtree\nn gap: unmounted\nn subtree")
		shell(t, dir, `echo x >>src/m/f; echo x >src/n/new`)
		expect(t, w, rec, "m/f content\nn/new content")
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestHiddenBelowMount(t *testing.T) {
	g := open(t)
	dir := disk.New(t, "ext4")
	// The file system is also mounted elsewhere, where nothing hides src/m.
	shell(t, dir, `mkdir -p src/m/d bind; mount --bind . bind; mount -t tmpfs tmpfs src/m`)
	for _, one := range []bool{true, false} {
		w, rec := watchSource(t, g, changes.Source{Path: dir + "/src", OneFileSystem: one})
		shell(t, dir, `echo x >bind/src/m/d/f; echo x >bind/src/m/f; chmod 700 bind/src/m/d; chmod 701 bind/src/m; echo x >bind/src/f`)
		expect(t, w, rec, "f content")
		shell(t, dir, `rm bind/src/f bind/src/m/f; chmod 755 bind/src/m/d`)
		w.Close()
	}
}

func TestBindMount(t *testing.T) {
	g := open(t)
	dir := disk.New(t, "ext4")
	shell(t, dir, `mkdir -p a/b/c a/out src; echo x >a/b/c/f; mount --bind a/b src`)
	for source, want := range map[string]string{"/src": "c/f content", "/src/c": "f content"} {
		w, rec := watchSource(t, g, changes.Source{Path: dir + source, OneFileSystem: true})
		shell(t, dir, `echo x >>a/b/c/f; echo x >a/out/f; chmod 700 a`)
		expect(t, w, rec, want)
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	// Both views of one directory are told.
	w1, rec1 := watchSource(t, g, changes.Source{Path: dir + "/src", OneFileSystem: true})
	_, rec2 := watchSource(t, g, changes.Source{Path: dir + "/a", OneFileSystem: true})
	shell(t, dir, `echo x >>a/b/c/f; mv a/b/c a/out/c`)
	expect(t, w1, rec1, "c subtree")
	if got, want := rec2.take(), "b/c subtree\nout/c subtree"; !strings.HasPrefix(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestTwoSources(t *testing.T) {
	g := open(t)
	dir := disk.New(t, "ext4")
	shell(t, dir, `mkdir -p a/d b; echo x >a/f; echo x >a/d/g`)
	w, recA := watchSource(t, g, changes.Source{Path: dir + "/a", OneFileSystem: true})
	_, recB := watchSource(t, g, changes.Source{Path: dir + "/b", OneFileSystem: true})
	shell(t, dir, `mv a/f b/f; mv a/d b/d; echo x >b/d/g`)
	expect(t, w, recA, "d subtree\nf gone")
	if got, want := recB.take(), "d subtree\nd/g content\nf content"; got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestSourceMoves(t *testing.T) {
	g := open(t)
	dir := disk.New(t, "ext4")
	shell(t, dir, `mkdir -p top/src; echo x >top/src/f`)
	source := changes.Source{Path: dir + "/top/src", OneFileSystem: true}
	w, rec := watchSource(t, g, source)

	// Found without a Drain.
	shell(t, dir, `mv top/src away; echo x >>away/f`)
	awaitGap(t, rec, ".", "no such file")
	expect(t, w, rec, ". gap: the source cannot be watched: looking at "+source.Path+": no such file or directory")
	shell(t, dir, `mv away top/src`)
	awaitGap(t, rec, ".", "there again")
	shell(t, dir, `echo x >>top/src/f`)
	expect(t, w, rec, "f content")

	shell(t, dir, `mv top other; mv other top; echo x >>top/src/f`)
	expect(t, w, rec, ". gap: the source or a directory above it was renamed\nf content")

	shell(t, dir, `mv top/src top/old; mkdir top/src; echo x >top/src/g`)
	drain(t, w)
	awaitGap(t, rec, ".", "something else")
	shell(t, dir, `echo x >>top/src/g; echo x >>top/old/f`)
	expect(t, w, rec, "g content")
}

func TestSourceUnmounted(t *testing.T) {
	g := open(t)
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	disk.Image(t, image, "ext4")
	shell(t, dir, `mkdir src; mount -o loop image src`)
	t.Cleanup(func() { shell(t, dir, `umount src 2>/dev/null || :`) })
	w, rec := watchSource(t, g, changes.Source{Path: dir + "/src", OneFileSystem: true})

	// The watch does not keep it from being unmounted.
	shell(t, dir, `echo x >src/f; umount src`)
	awaitGap(t, rec, ".", "something else")
	shell(t, dir, `echo x >src/under`)
	expect(t, w, rec, "under content")

	shell(t, dir, `mount -o loop image src`)
	awaitGap(t, rec, ".", "something else")
	shell(t, dir, `echo x >>src/f`)
	expect(t, w, rec, "f content")

	// The same again too fast to be seen in between.
	shell(t, dir, `umount src; mount -o loop image src`)
	drain(t, w)
	awaitGap(t, rec, ".", "something else")
	shell(t, dir, `echo x >>src/f`)
	expect(t, w, rec, "f content")
	if err := os.Remove(dir + "/src/f"); err != nil {
		t.Error(err)
	}
	expect(t, w, rec, "f gone")
}

func TestRefused(t *testing.T) {
	g := open(t)
	dir := disk.New(t, "tmpfs")
	shell(t, dir, `mkdir -p lower upper work src nested/m; mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work src
		mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work nested/m`)
	for path, words := range map[string]string{"src": "overlay", "nested": "/nested/m", "none": "no such file"} {
		_, err := g.Watch(t.Context(), changes.Source{Path: filepath.Join(dir, path)}, new(memory))
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("watching %s: %v", path, err)
		}
	}
	if _, err := g.Watch(t.Context(), changes.Source{Path: filepath.Join(dir, "nested"), OneFileSystem: true}, new(memory)); err != nil {
		t.Error(err)
	}
}

func TestSubvolume(t *testing.T) {
	g := open(t)
	top := disk.New(t, "btrfs")
	dir := t.TempDir()
	shell(t, top, `btrfs -q subvolume create sub; btrfs -q subvolume create sub/nested; mkdir sub/d; echo x >sub/d/f`)
	run(t, "bash", "-euc", `dev=$(findmnt -no SOURCE "$0" | sed 's/\[.*//'); mkdir "$1/src"; mount -o subvol=sub "$dev" "$1/src"`, top, dir)
	t.Cleanup(func() { shell(t, dir, `umount src 2>/dev/null || :`) })
	w, rec := watchSource(t, g, changes.Source{Path: dir + "/src", OneFileSystem: true})
	shell(t, dir, `echo x >>src/d/f; echo x >src/nested/f; mv src/d src/e; chmod 700 src`)
	shell(t, top, `echo x >outside; echo x >sub/e/g`)
	expect(t, w, rec, ". attributes\nd subtree\ne subtree\ne/f content\ne/g content\nnested/f content")
	shell(t, dir, `btrfs -q subvolume snapshot src/e/.. src/copy`)
	expect(t, w, rec, "copy subtree")
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	shell(t, dir, `umount src`)
}

// What was missed in a reading may have happened at any time since the one before.
func TestMissedSince(t *testing.T) {
	var rec memory
	before := time.Now()
	g := &Group{read: before, reading: end{time: before.Add(time.Hour)}}
	w := &watch{group: g, source: changes.Source{Path: "/src"}, rec: &rec}
	g.views = []*view{{fd: -1, detached: -1, watches: []*watch{w}, trouble: "missed"}}
	g.rest()
	if len(rec.gaps) != 1 || !rec.gaps[0].Since.Equal(before) || !g.read.Equal(g.reading.time) {
		t.Errorf("%+v, read %v", rec.gaps, g.read)
	}
}
