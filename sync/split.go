package sync

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"rsince/sync/rsync"
)

// rsync writes a regular file anew under its name, but only gives a fifo, socket, device or unchanged
// symlink that is there the attributes it is to have. Where the target's are names of one file, and the
// source's no longer are, the attributes of one would be those of all.

// split removes from the target what is no regular file and is copied anew, so that it is no longer linked
// to names that it does not share in the source. Where the target cannot be looked at, it removes all but
// symlinks, which have something new in them nearly always, and then rsync makes new ones.
func (r *run) split(ctx context.Context, p *plan) (rsync.Result, error) {
	var names []string
	for _, path := range slices.Concat(append(slices.Clone(p.links), p.content)...) {
		if r.joint(path) {
			names = append(names, path)
		}
	}
	if len(names) == 0 || !r.engine.Capabilities.DeleteMissingArgs {
		return rsync.Result{}, nil
	}
	empty, release, err := r.emptyDirectory()
	if err != nil {
		return rsync.Result{}, err
	}
	defer release()
	slices.Sort(names)
	removing := r.telling(func(item rsync.Item) {
		if _, listed := slices.BinarySearch(names, item.Path); listed && !item.Dir {
			r.tally.takeRemade(item.Path)
		} else {
			r.tally.take(item)
		}
	}, "--no-implied-dirs") // the directories that the names are in are not those of the source
	removing.MaxDelete = nil
	r.say("%s may be linked to others on the target, and made anew", counted(len(names), "name"))
	res, err := removing.From(empty).Deletions(ctx, names)
	if err != nil {
		err = fmt.Errorf("removing what is to be made anew: %w", err)
	}
	return rsync.Result{Failed: res.Failed, Killed: res.Killed}, err
}

// emptyDirectory gives a directory that holds nothing: one to be kept, but in a dry run, which keeps nothing.
func (r *run) emptyDirectory() (dir string, release func(), err error) {
	if !r.DryRun {
		dir = filepath.Join(r.Dir, "empty")
		return dir, func() {}, os.MkdirAll(dir, 0o700)
	}
	dir, err = os.MkdirTemp("", "rsince-empty-")
	return dir, func() { _ = os.Remove(dir) }, err
}

// joint reports whether a name may share a file of the target with names that it does not share in the source,
// or be a special file of another type there, and rsync would leave it so.
func (r *run) joint(path string) bool {
	st, err := r.tree.stat(path)
	kind := st.Mode & unix.S_IFMT
	if err != nil || kind == unix.S_IFREG || kind == unix.S_IFDIR {
		return false
	}
	if !r.Profile.Target.Local() {
		return kind != unix.S_IFLNK
	}
	var there unix.Stat_t
	err = unix.Lstat(filepath.Join(r.Profile.Target.Path, path), &there)
	return err == nil && (manyNames(&there) || otherSpecial(&st, &there))
}
