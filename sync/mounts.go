package sync

import (
	"fmt"
	"os"
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

// A targetMount is what is mounted in a local target.
type targetMount struct {
	Path []byte   `json:"path"` // relative to the target
	Is   identity `json:"is"`   // of its root; zero if it cannot be looked at
}

// lookAtMounts learns what is mounted below the root of a local target, and where that is not what was mounted at the last
// run.
func (r *run) lookAtMounts(root string, mounts []string) {
	was := map[string]identity{}
	for _, m := range r.memory.Mounts {
		was[string(m.Path)] = m.Is
	}
	r.mounts, r.mounted, r.remounted = nil, nil, set{}
	for _, at := range mounts {
		path, _ := below(at, root)
		m := targetMount{Path: []byte(path)}
		if f, err := os.Open(at); err == nil {
			m.Is, _ = identify(f)
			f.Close()
		}
		r.mounts, r.mounted = append(r.mounts, path), append(r.mounted, m)
		if before, known := was[path]; !known || !before.same(m.Is) {
			r.remounted.add(path)
		}
	}
}

// apart gives the mount points in a local target where the source has a directory. Told to stay on one file system, rsync
// deletes on none but that of the directory it was given, and so leaves in them what the source does not have.
func (r *run) apart() []string {
	return slices.DeleteFunc(slices.Clone(r.mounts), func(mount string) bool { return !r.isDirectory(mount) || !r.tree.holds(mount) })
}

// apartIn gives those of them that the passes of a plan come to, those that are not what they were, and those under the
// names of new directories: what is mounted stays when a directory goes, which a run that only finds out does not tell, and
// then belongs to the next one of that name.
func (r *run) apartIn(p *plan) []string {
	return slices.DeleteFunc(r.apart(), func(mount string) bool {
		reached := r.record.Mode == modeFull || r.remounted.has(mount) || p.inSubtrees(mount)
		for dir := mount; dir != "."; dir = parent(dir) {
			reached = reached || p.changes[dir].Kind == changes.Content
		}
		return !reached
	})
}

// mountOf gives the mount point in a local target by which a path is reached; of its own file system it is "".
func (r *run) mountOf(path string) string {
	deepest := ""
	for _, mount := range r.mounts { // one before those in it
		if _, ok := below(path, mount); ok || path == mount {
			deepest = mount
		}
	}
	return deepest
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
