package sync

import (
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

// TestMounts leaves out what is mounted, and not what has only been mounted beneath: the mount table
// has both.
func TestMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := sourceOf(t, `mkdir -p src/below/m cover/below/m cover/top`)
	root := dir + "/src"
	mount(t, "none", root+"/below/m", "tmpfs", 0)
	mount(t, dir+"/cover", root, "", unix.MS_BIND)
	mount(t, "none", root+"/top", "tmpfs", 0)
	for _, test := range []struct {
		oneFileSystem   bool
		foreign, mounts []string
	}{
		{true, []string{"skip", "top"}, nil},
		{false, []string{"skip"}, []string{"top"}},
	} {
		tree, err := newTree(changes.Source{Path: root, OneFileSystem: test.oneFileSystem, Skip: []string{root + "/skip", "/elsewhere", root}}, nil, time.Now(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(tree.foreign)); !slices.Equal(got, test.foreign) || !slices.Equal(tree.mounts, test.mounts) {
			t.Errorf("one file system %t: foreign %q, mounts %q", test.oneFileSystem, got, tree.mounts)
		}
	}
}

func mount(t *testing.T, source, target, fsType string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(source, target, fsType, flags, ""); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestEmpty tells a source that holds nothing from one that holds only what is not part of it.
func TestEmpty(t *testing.T) {
	for script, want := range map[string]bool{
		"":                             true,
		"mkdir target; touch f":        false,
		"mkdir target; touch target/f": true,
		"touch x.tmp":                  false, // excluded, but there
	} {
		tree := treeOf(t, sourceOf(t, script), "target")
		if got, err := tree.empty(); got != want || err != nil {
			t.Errorf("%q: got %t, %v", script, got, err)
		}
	}
}

func TestWholeMachine(t *testing.T) {
	tree, err := newTree(changes.Source{Path: "/", OneFileSystem: true, Skip: []string{"/tmp"}}, nil, time.Now(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if !tree.foreign["proc"] || !tree.foreign["tmp"] {
		t.Errorf("foreign: %v", tree.foreign)
	}
	if got := planned(t, newPlanner(tree), "content proc/1/stat, subtree tmp/x, attributes etc, gone etc/no-such-name/x"); got != "attributes . etc|gone etc/no-such-name" {
		t.Errorf("got %q", got)
	}
}
