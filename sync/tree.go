package sync

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	gosync "sync"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/changes/scan"
	"rsince/sync/filter"
)

// tree is the source as a run sees it: what is part of it and what is not.
type tree struct {
	root  string
	rules *filter.Rules
	// foreign are paths that are left out with all below them: mount points, unless the profile
	// crosses them, rsince's own directories, and the target.
	foreign map[string]bool
	// mounts are the mount points below the root if the profile crosses them.
	mounts []string

	dirs map[string]ancestry // what is known of directories, by path
	seen *seen
}

// ancestry tells what stands in the way of a path below a directory.
type ancestry struct {
	state standing
	at    string // the directory of which state holds: this one or the highest one above it
}

type standing uint8

const (
	present  standing = iota
	missing           // it does not exist
	blocked           // it is not a directory
	left              // it is excluded, or not part of the source
	unstable          // it cannot be looked at
)

// newTree looks at the source of a run whose batch was cut at this moment, some time after it began.
func newTree(source changes.Source, rules *filter.Rules, cut, began time.Time) (*tree, error) {
	t := &tree{root: source.Path, rules: rules, foreign: map[string]bool{}, dirs: map[string]ancestry{}, seen: newSeen(cut, began)}
	for _, skip := range source.Skip {
		if rel, ok := below(skip, source.Path); ok {
			t.foreign[rel] = true
		}
	}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	for _, m := range mounts {
		rel, ok := below(m.Mountpoint, source.Path)
		switch {
		case !ok || !isMountPoint(m.Mountpoint):
		case source.OneFileSystem:
			t.foreign[rel] = true
		default:
			t.mounts = append(t.mounts, rel)
		}
	}
	return t, nil
}

// isMountPoint asks the kernel, because the mount table also has what lies hidden under a later
// mount: there the path leads to an ordinary directory. Where it cannot tell, the table is right.
func isMountPoint(path string) bool {
	const flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, flags, 0, &st); err != nil {
		return true
	}
	known := st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 // Linux 5.8
	return !known || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// below gives path relative to dir, if it is truly below it.
func below(path, dir string) (rel string, ok bool) {
	if dir != "/" {
		dir += "/"
	}
	rel, ok = strings.CutPrefix(path, dir)
	return rel, ok && rel != ""
}

// leavesOut reports whether an entry is not to be copied, its ancestors being part of the source.
func (t *tree) leavesOut(path string, dir bool) bool {
	return t.foreign[path] || t.rules.Match(path, dir)
}

// ancestry looks at a directory and those above it. What it finds is kept for the run.
func (t *tree) ancestry(dir string) ancestry {
	if known, ok := t.dirs[dir]; ok {
		return known
	}
	if dir == "." {
		if st, err := t.stat("."); err == nil {
			t.seen.name(".", &st)
		}
		t.dirs[dir] = ancestry{}
		return ancestry{}
	}
	a := t.ancestry(parent(dir))
	if a.state == present {
		if state := t.look(dir); state != present {
			a = ancestry{state: state, at: dir}
		}
	}
	t.dirs[dir] = a
	return a
}

// holds reports whether a name exists and is part of the source.
func (t *tree) holds(path string) bool {
	st, err := t.stat(path)
	return err == nil && t.ancestry(parent(path)).state == present && !t.leavesOut(path, st.Mode&unix.S_IFMT == unix.S_IFDIR)
}

func (t *tree) look(dir string) standing {
	st, err := t.stat(dir)
	switch {
	case t.leavesOut(dir, true):
		return left
	case errors.Is(err, unix.ENOENT):
		return missing
	case err != nil:
		return unstable
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return blocked
	}
	t.seen.name(dir, &st)
	return present
}

func (t *tree) stat(path string) (st unix.Stat_t, err error) {
	err = ignoringEINTR(func() error { return unix.Lstat(t.root+"/"+path, &st) })
	if err == unix.ENAMETOOLONG {
		err = t.statStepwise(path, &st)
	}
	return st, err
}

// statStepwise goes towards a path that is too long for one system call.
func (t *tree) statStepwise(path string, st *unix.Stat_t) error {
	const reach = unix.PathMax / 2
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	dir, err := unix.Open(t.root, flags, 0)
	for err == nil && len(path) > reach {
		cut := strings.LastIndexByte(path[:reach], '/')
		if cut < 0 {
			err = unix.ENAMETOOLONG // of one name
			break
		}
		var next int
		next, err = unix.Openat(dir, path[:cut], flags, 0)
		unix.Close(dir)
		dir, path = next, path[cut+1:]
	}
	if err == nil {
		err = ignoringEINTR(func() error { return unix.Fstatat(dir, path, st, unix.AT_SYMLINK_NOFOLLOW) })
	}
	if dir >= 0 {
		unix.Close(dir)
	}
	return err
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// filters gives the rsync arguments for passes that find names by themselves: what is foreign
// first, so that no pattern of the profile brings it back.
func (t *tree) filters() []string {
	var args []string
	for path := range t.foreign {
		args = append(args, "--filter=- "+filter.Literal(path))
	}
	slices.Sort(args)
	return append(args, t.rules.Args()...)
}

func (t *tree) scan(root string) scan.Tree {
	return scan.Tree{Root: t.root + "/" + root, Prune: func(path string, dir bool) bool {
		return t.leavesOut(joined(root, path), dir)
	}}
}

// empty reports whether the source holds nothing at all, or only what mkfs makes.
func (t *tree) empty() (bool, error) {
	entries, err := os.ReadDir(t.root)
	if err != nil {
		return false, err
	}
	made := hasLostFound(t.root)
	return !slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return !t.foreign[e.Name()] && !(made && e.Name() == "lost+found")
	}), nil
}

// walk calls visit, from several goroutines, for the directory root and every entry of the source that
// is to be copied below it, with the identities of directories, and a directory before what is in it.
// It calls unread with what could not be looked at.
func (t *tree) walk(ctx context.Context, root string, visit func(path string, st *unix.Stat_t, id scan.Identity), unread func(path string)) error {
	if st, err := t.stat(root); err == nil {
		visit(root, &st, t.identity(root))
	}
	s := t.scan(root)
	s.Unread = func(path string) { unread(joined(root, path)) }
	return s.Walk(ctx, func(e scan.Entry) {
		visit(joined(root, e.Path), &e.Stat, e.Identity)
	})
}

// entriesIn gives what is directly in a directory and is to be copied, by its path in the source.
func (t *tree) entriesIn(ctx context.Context, dir string) ([]scan.Entry, error) {
	s := t.scan(dir)
	s.Flat = true
	var mu gosync.Mutex
	var found []scan.Entry
	err := s.Names(ctx, func(e scan.Entry) {
		mu.Lock()
		defer mu.Unlock()
		e.Path = joined(dir, e.Path)
		found = append(found, e)
	})
	return found, err
}

// identity is that of a directory, or none.
func (t *tree) identity(dir string) scan.Identity {
	id, err := scan.IdentityOf(unix.AT_FDCWD, t.root+"/"+dir)
	if err != nil {
		return 0
	}
	return id
}

func parent(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return "."
}
