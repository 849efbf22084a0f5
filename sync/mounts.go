package sync

import (
	"fmt"
	"path/filepath"
	"slices"

	"rsince/sync/filter"
	"rsince/sync/rsync"
)

// What is mounted in the target belongs to it as long as the source has a directory there: a large part of a backup on a
// disk of its own. A mount point cannot be deleted; and were its name gone from the source, an rsync that tries would
// delete all that is mounted before it finds out.

// isMount reports whether something is mounted on a name in a local target.
func (r *run) isMount(path string) bool {
	return slices.Contains(r.mounts, filepath.Join(resolved(r.Profile.Target.Path), path))
}

// mountIn returns the first mount point in a local target that is path or lies below it; none is "".
func (r *run) mountIn(path string) string {
	dir := filepath.Join(resolved(r.Profile.Target.Path), path)
	i := slices.IndexFunc(r.mounts, func(mount string) bool { _, ok := below(mount, dir); return ok || mount == dir })
	if i < 0 {
		return ""
	}
	return r.mounts[i]
}

// failMounts makes names that were to be deleted failed ones if something is mounted there, or below.
func (r *run) failMounts(gone []string) {
	for _, path := range gone {
		if mount := r.mountIn(path); mount != "" {
			r.result.Add(rsync.Result{Failed: []rsync.Failure{{Path: path, Reason: fmt.Sprintf("a file system is mounted on %s", mount)}}})
		}
	}
}

// pinned gives the rsync arguments that keep mount points in a local target, and what is mounted where the source has no
// directory.
func (r *run) pinned() []string {
	var args []string
	for _, mount := range r.mounts {
		path, _ := below(mount, resolved(r.Profile.Target.Path))
		args = append(args, "--filter=P "+filter.Literal(path))
		if !r.tree.holds(path) || !r.isDirectory(path) {
			args = append(args, "--filter=P "+filter.Below(path))
		}
	}
	return args
}
