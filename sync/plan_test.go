package sync

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/sync/filter"
)

// planTree is what the changes of TestPlan are held against. mnt and e/target are foreign.
const planTree = `
mkdir -p d/sub e/target cache only tree/a/b links/in mnt
touch f g.tmp d/x d/y.tmp d/sub/z e/w e/target/x cache/c only/o tree/t tree/a/b/u mnt/f
truncate -s 1M large
ln -s d symlink; ln -s nowhere dangling
mkfifo fifo
echo 1 >one; ln one links/two; ln one links/in/three; ln one links/four.tmp; ln one cache/five
echo 2 >inner; ln inner inner.tmp
echo 3 >outer; ln outer ../outside
ln -P symlink links/symlink2
touch -- -n '#h' ';s' "$(printf 'new\nline')" "$(printf '\377')"
`

var planPatterns = []string{"*.tmp", "/cache/", "only/"}

func TestPlan(t *testing.T) {
	root := sourceOf(t, planTree)
	const one = "links links/in/three links/two one"
	for _, test := range []struct{ name, changes, want string }{
		{"nothing", "", ""},
		{"content", "content f, content d/x", "content d/x f"},
		{"small file's attributes", "attributes f", "content f"},
		{"large file's attributes", "attributes large", "attributes large"},
		{"directory's attributes", "attributes d", "attributes d"},
		{"new directory", "content d, content d/x", "content d d/x"},
		{"odd types", "content dangling, content fifo", "content dangling fifo"},
		{"subtree", "subtree tree", "subtrees tree"},
		{"entries of a subtree", "subtree tree, content tree/t, directory tree/a, gone tree/none, subtree tree/a/b", "subtrees tree"},
		{"subtree that is a file", "subtree f, directory d/x", "content d/x f"},
		{"subtree that is a symlink", "subtree dangling", "content dangling"},
		{"directory", "directory d", "directories d"},
		{"gone and back, a file", "gone f", "content f"},
		{"gone and back, a directory", "gone d", "subtrees d"},
		{"the source itself", "content ., attributes d", "attributes . d"},
		{"all below the source", "subtree ., content f, gone none, subtree d", one + "|links links/symlink2 symlink|subtrees ."},
		{"the source's names", "directory .", "content inner outer|directories .|" + one + "|links links/symlink2 symlink"},

		{"gone", "gone none, content d/none, attributes d/never, subtree nodir", "gone d/never d/none nodir none"},
		{"parents gone", "gone no/a, content no/b/c, subtree no/b, gone no", "gone no"},
		{"parents gone but one", "gone d/no/a, content d/no/b/c", "gone d/no"},
		{"below what is a file now", "gone f/a, content f/b/c", "content f"},
		{"below what is a symlink now", "content dangling/x, gone dangling/none", "content dangling"},
		{"below what has several names now", "gone one/a", one},

		{"excluded", "content g.tmp, subtree cache, content d/y.tmp, gone e/gone.tmp", "attributes . d e|listings ."},
		{"excluded, its attributes", "attributes cache, attributes only", "attributes ."},
		{"below excluded", "content cache/c, gone cache/none, content only/o, content d/only/a/b", "attributes . d"},
		{"gone, excluded if it was a directory", "gone d/only, subtree e/only", "listings d e"},
		{"gone, below a directory that is gone", "gone no/only, content no2/only/x", "gone no no2"},
		{"foreign", "content mnt, subtree mnt, content mnt/f, gone mnt/none, attributes e/target/x", "attributes . e"},

		{"several names", "content one", one},
		{"several names, changed by two", "content links/two, attributes links/in/three", one},
		{"several names, changed by an excluded one", "content links/four.tmp", "attributes links|" + one},
		{"several names, changed by one in an excluded directory", "attributes cache/five", "attributes .|" + one},
		{"several names, all excluded", "content inner.tmp, content cache/c", "attributes .|content inner"},
		{"several names below a subtree", "subtree links", one + "|links links/symlink2 symlink|subtrees links"},
		{"several names in a directory", "directory links/in", "directories links/in|" + one},
		{"all others excluded", "content inner", "content inner"},
		{"all others outside", "attributes outer", "content outer"},
		{"a symlink of several names", "content symlink", "links links/symlink2 symlink"},
		{"odd names", "content -n, content #h, content ;s, content new\nline, content \xff", "content #h -n ;s new\nline \xff"},
		{"a name that cannot be", "content " + strings.Repeat("n", 256), "content " + strings.Repeat("n", 256)},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlanner(treeOf(t, root, "mnt", "e/target"))
			if got := planned(t, p, test.changes); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

// TestSweep lists every directory that may hold temporary files of an earlier run.
func TestSweep(t *testing.T) {
	root := sourceOf(t, planTree)
	for _, test := range []struct{ changes, want string }{
		{"content d/x", "content d/x|listings d"},
		{"attributes d/sub/z", "content d/sub/z|listings d/sub"},
		{"gone d/none", "gone d/none|listings d"},
		{"gone no/none/x", "gone no|listings ."},
		{"content links/two", "links links/in/three links/two one|listings . links links/in"},
		{"subtree tree, content tree/a/b/u", "listings .|subtrees tree"},
		{"directory d, content d/x", "content d/x|directories d|listings ."},
		{"content g.tmp", "attributes ."},
	} {
		p := newPlanner(treeOf(t, root))
		p.sweep = true
		if got := planned(t, p, test.changes); got != test.want {
			t.Errorf("%s: got %q, want %q", test.changes, got, test.want)
		}
	}
}

// TestUnripe keeps files pending whose times a later write could leave as they are.
func TestUnripe(t *testing.T) {
	root := sourceOf(t, `
mkdir dir; touch young old changed future fifo; rm fifo; mkfifo fifo
touch -d '1 hour ago' changed; touch -d '1 hour' future`)
	p := newPlanner(treeOf(t, root))
	p.ripe = time.Minute
	planned(t, p, "content young, attributes changed, content dir, content fifo, gone future")
	var got []string
	for _, c := range p.carried {
		got = append(got, c.Kind.String()+" "+c.Path)
		if c.Attempts != 0 || c.Error != "" {
			t.Errorf("%s counts as failed: %+v", c.Path, c)
		}
	}
	slices.Sort(got)
	if want := []string{"attributes changed", "content young", "gone future"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	p = newPlanner(treeOf(t, root))
	if planned(t, p, "content young"); len(p.carried) != 0 {
		t.Errorf("without an age: %+v", p.carried)
	}
}

func TestReleaseBefore(t *testing.T) {
	for release, want := range map[string]bool{
		"6.1.0-28-amd64": true, "6.12.9": true, "5.10": true, "6.13.0-rc1": false, "6.18.44": false, "7.0": false, "": true, "odd": true,
	} {
		if got := releaseBefore(release, 6, 13); got != want {
			t.Errorf("%q: got %t", release, got)
		}
	}
}

// TestHandles finds the names of files that are known by their handles only.
func TestHandles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting and opening by handle need root")
	}
	root := sourceOf(t, `mkdir d m; echo 1 >d/file; echo 2 >d/a; ln d/a b; echo 3 >../out; echo 4 >d/x.tmp`)
	if err := unix.Mount("none", root+"/m", "tmpfs", 0, ""); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unix.Unmount(root+"/m", unix.MNT_DETACH) })
	if out, err := exec.Command("sh", "-c", "cd "+root+"/m && echo 5 >c && ln c e && echo 6 >gone").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	gone := handleOf(t, root+"/m/gone")
	if err := os.Remove(root + "/m/gone"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		handle changes.Handle
		want   string
	}{
		{"one name", handleOf(t, root+"/d/file"), "content d/file"},
		{"two names", handleOf(t, root+"/b"), "links b d/a"},
		{"on another file system", handleOf(t, root+"/m/c"), "links m/c m/e"},
		{"outside", handleOf(t, root+"/../out"), ""},
		{"excluded", handleOf(t, root+"/d/x.tmp"), ""},
		{"a directory", handleOf(t, root+"/d"), ""},
		{"gone", gone, ""},
		{"garbage", "x", ""},
		{"more garbage", "\x01\x00\x00\x00garbage", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			tree := treeOf(t, root)
			tree.mounts = []string{"m", "unmounted"}
			p := newPlanner(tree)
			p.add(changes.Change{Handle: test.handle, Kind: changes.Content})
			if got := planned(t, p, ""); got != test.want || len(p.carried) != 0 {
				t.Errorf("got %q, want %q; carried %v", got, test.want, p.carried)
			}
		})
	}
}

// TestInodes finds the names of files of which only the inode is known.
func TestInodes(t *testing.T) {
	root := sourceOf(t, `mkdir d; echo 1 >d/file; echo 2 >d/a; ln d/a b; echo 3 >../out; echo 4 >d/x.tmp`)
	for path, want := range map[string]string{
		"d/file": "content d/file", "b": "links b d/a", "../out": "", "d/x.tmp": "",
	} {
		p := newPlanner(treeOf(t, root))
		st, err := p.tree.stat(path)
		if err != nil {
			t.Fatal(err)
		}
		p.links.addInode(fileID{st.Dev, st.Ino})
		if got := planned(t, p, ""); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

// TestMovedMeanwhile: a directory that goes while the run plans takes nothing with it that the run was told of.
func TestMovedMeanwhile(t *testing.T) {
	for _, kind := range []changes.Kind{changes.Directory, changes.Subtree} {
		root := sourceOf(t, `mkdir b d; echo 1 >d/f; ln d/f d/g; ln d/f b/h`)
		p := newPlanner(treeOf(t, root))
		p.add(changes.Change{Path: "b", Kind: kind})
		if err := os.Rename(root+"/b", root+"/c"); err != nil {
			t.Fatal(err)
		}
		if got := planned(t, p, "content d/f"); !strings.Contains(got, "links c/h d/f d/g") {
			t.Errorf("%v: got %q", kind, got)
		}
		if len(p.carried) > 0 || len(p.links.unread) > 0 {
			t.Errorf("%v: failed: %v, unread: %v", kind, p.carried, p.links.unread)
		}
	}
}

// TestSeenTwice: a name that is seen through two mounts does not stand for another one of its file.
func TestSeenTwice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	root := sourceOf(t, `mkdir a b; echo 1 >a/f; ln a/f a/g`)
	if err := unix.Mount(root+"/a", root+"/b", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(root+"/b", unix.MNT_DETACH) })
	for _, changes := range []string{"content a/f, content b/f", "content a/f, directory b", "content a/f, content a/g"} {
		tree := treeOf(t, root)
		tree.mounts = []string{"b"}
		if got := planned(t, newPlanner(tree), changes); !strings.Contains(got, "links a/f a/g b/f b/g") {
			t.Errorf("%s: got %q", changes, got)
		}
	}
}

// TestLongPaths looks at names beyond the 4,095 bytes of one system call.
func TestLongPaths(t *testing.T) {
	root := t.TempDir()
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("n", 200)
	path := ""
	for len(path) < 5000 {
		if err := unix.Mkdirat(dir, name, 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(dir)
		dir, path = next, path+name+"/"
	}
	file, err := unix.Openat(dir, "file", unix.O_CREAT|unix.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(file)
	unix.Close(dir)
	got := planned(t, newPlanner(treeOf(t, root)), "content "+path+"file, gone "+path+"none, content "+path+"no/file, gone "+path+"file/below")
	if want := "content " + path + "file|gone " + path + "no " + path + "none"; got != want {
		t.Errorf("got %.50q… of %d bytes, want %d", got, len(got), len(want))
	}
}

func handleOf(t *testing.T, path string) changes.Handle {
	t.Helper()
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	if err != nil {
		t.Skip(err)
	}
	kind := h.Type()
	return changes.Handle([]byte{byte(kind), byte(kind >> 8), byte(kind >> 16), byte(kind >> 24)}) + changes.Handle(h.Bytes())
}

// sourceOf makes a directory and runs a shell script in it.
func sourceOf(t *testing.T, script string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "src")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return root
}

func treeOf(t *testing.T, root string, skip ...string) *tree {
	t.Helper()
	rules, err := filter.Parse(nil, planPatterns)
	if err != nil {
		t.Fatal(err)
	}
	source := changes.Source{Path: root, OneFileSystem: true}
	for _, rel := range skip {
		source.Skip = append(source.Skip, filepath.Join(root, rel))
	}
	tree, err := newTree(source, rules, time.Now(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(skip, "") || len(skip) == 0 { // what the test mounts is part of its source
		clear(tree.foreign)
	}
	return tree
}

// planned adds changes, written as "KIND PATH, KIND PATH", and shows the plan's lists that are not
// empty, "LIST PATH PATH|LIST PATH", sorted.
func planned(t *testing.T, p *planner, list string) string {
	t.Helper()
	kinds := map[string]changes.Kind{}
	for k := changes.Attributes; k <= changes.Subtree; k++ {
		kinds[k.String()] = k
	}
	for c := range strings.SplitSeq(list, ", ") {
		if kind, path, ok := strings.Cut(c, " "); ok {
			p.add(changes.Change{Path: path, Kind: kinds[kind]})
		}
	}
	plan, err := p.finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range []struct {
		name  string
		paths []string
	}{
		{"attributes", plan.attributes}, {"content", plan.content}, {"directories", plan.directories},
		{"subtrees", plan.subtrees}, {"gone", plan.gone}, {"listings", plan.listings},
	} {
		if len(l.paths) > 0 {
			lines = append(lines, l.name+" "+strings.Join(l.paths, " "))
		}
	}
	for _, names := range plan.links {
		lines = append(lines, "links "+strings.Join(names, " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "|")
}
