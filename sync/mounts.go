package sync

import (
	"fmt"
	"path/filepath"
	"slices"

	"rsince/changes"
	"rsince/sync/filter"
	"rsince/sync/rsync"
)

// What is mounted in the target belongs to it as long as the source has a directory there: a large part of a backup on a
// disk of its own. A mount point cannot be deleted; and were its name gone from the source, an rsync that tries would
// delete all that is mounted before it finds out.

// isMount reports whether something is mounted on a name in a local target.
func (r *run) isMount(path string) bool { return slices.Contains(r.mounts, path) }

// mountIn returns the first mount point in a local target that is path or lies below it; none is "".
func (r *run) mountIn(path string) string {
	i := slices.IndexFunc(r.mounts, func(mount string) bool { _, ok := below(mount, path); return ok || mount == path })
	if i < 0 {
		return ""
	}
	return r.mounts[i]
}

// mountedDirectories gives the mount points in a local target where the source has a directory. Told to stay on one file
// system, rsync deletes on none but that of the directory it was given, and so leaves in them what the source does not have.
func (r *run) mountedDirectories() []string {
	return slices.DeleteFunc(slices.Clone(r.mounts), func(mount string) bool { return !r.isDirectory(mount) || !r.tree.holds(mount) })
}

// mounted gives those of mountedDirectories that the passes of a plan come to, and those under the names of new
// directories: what is mounted stays when a directory goes, which a run that only finds out does not tell, and then belongs
// to the next one of that name.
func (r *run) mounted(p *plan) []string {
	return slices.DeleteFunc(r.mountedDirectories(), func(mount string) bool {
		reached := r.record.Mode == modeFull || p.inSubtrees(mount)
		for dir := mount; dir != "."; dir = parent(dir) {
			reached = reached || p.changes[dir].Kind == changes.Content
		}
		return !reached
	})
}

// failMounts makes names that were to be deleted failed ones if something is mounted there, or below.
func (r *run) failMounts(gone []string) {
	for _, path := range gone {
		if mount := r.mountIn(path); mount != "" {
			r.result.Add(rsync.Result{Failed: []rsync.Failure{{Path: path, Reason: fmt.Sprintf("a file system is mounted on %s", filepath.Join(resolved(r.Profile.Target.Path), mount))}}})
		}
	}
}

// pinned gives the rsync arguments that keep mount points in a local target, and what is mounted where the source has no
// directory.
func (r *run) pinned() []string {
	var args []string
	for _, path := range r.mounts {
		args = append(args, "--filter=P "+filter.Literal(path))
		if !r.tree.holds(path) || !r.isDirectory(path) {
			args = append(args, "--filter=P "+filter.Below(path))
		}
	}
	return args
}
