package sync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/changes/durable"
	"rsince/sync/filter"
	"rsince/sync/profile"
	"rsince/sync/rsync"
)

// A RefusedError says why a guard did not let the run begin, or delete any more. Everything is still pending.
type RefusedError struct {
	Reason string
	// Lift is the option of sync that accepts what the guard refused.
	Lift string
}

func (e *RefusedError) Error() string { return e.Reason }

const (
	liftAccept    = "--accept"
	liftMaxDelete = "--max-delete none"
)

// meetSource makes sure that the source is there and is the one it was.
func (r *run) meetSource() error {
	id, err := hold(&r.held.source, r.source.Path)
	if err != nil {
		return &SkippedError{fmt.Errorf("the source is not there: %w", err)}
	}
	if known := r.memory.Source; known != (identity{}) && !known.same(id) {
		if !r.Accept {
			return &RefusedError{
				Reason: fmt.Sprintf("%s is not the directory it was: it is %s, it was %s", r.Profile.Source, id, known),
				Lift:   liftAccept,
			}
		}
		r.memory.replaceSource()
	}
	r.memory.Source = id
	return nil
}

// meetTarget makes sure that the target is there and is the one it was. A local target that was
// never copied to is made, in a directory that exists.
func (r *run) meetTarget(ctx context.Context) error {
	id, err := r.identifyTarget(ctx)
	missing := errors.Is(err, fs.ErrNotExist)
	if (err == nil || missing) && r.isAnother(id) {
		r.say("the profile's target was %s, and is %s now", r.memory.Destination, r.Profile.Target)
		r.memory.changeTarget(id)
		r.memory.forgetTarget()
		r.retargeted = true
	}
	if missing && r.memory.Target == (identity{}) {
		id, err = r.makeTarget(ctx)
	}
	if err != nil {
		return r.notThere(err)
	}
	if known := r.memory.Target; known != (identity{}) && !known.same(id) {
		if !r.Accept {
			return &RefusedError{
				Reason: fmt.Sprintf("%s is not the directory it was (is the right disk mounted?): it is %s, it was %s", r.Profile.Target, id, known),
				Lift:   liftAccept,
			}
		}
		if met := r.memory.changeTarget(id); !met && r.Existing == KeepExisting {
			r.memory.forgetTarget()
		}
	}
	r.memory.Target, r.memory.Destination = id, r.Profile.Target.String()
	if r.held.target != nil {
		root := resolved(r.held.target.Name())
		mounts, err := mountsBelow(root)
		if err != nil {
			return err
		}
		if err := r.meetApart(r.held.source, r.held.target, mounts); err != nil {
			return err
		}
		r.lookAtMounts(root, mounts)
	}
	return r.meetFilled(ctx)
}

// notThere is the error of a target that could not be looked at. What asks a remote one can fail in
// other ways than by its absence.
func (r *run) notThere(err error) error {
	if r.Profile.Target.Local() || errors.Is(err, fs.ErrNotExist) || errors.Is(err, rsync.ErrUnreachable) {
		return &SkippedError{fmt.Errorf("the target is not there: %w", err)}
	}
	return err
}

// isAnother reports whether the profile has another target than at the last run. The same directory in
// another place is none, where that can be told.
func (r *run) isAnother(id identity) bool {
	m := r.memory
	if m.Destination == "" || m.Destination == r.Profile.Target.String() {
		return false
	}
	return m.Target == (identity{}) || id == (identity{}) || !m.Target.same(id)
}

// meetFilled refuses a target that was filled and is empty. Of one on an rsync daemon that is all that
// can be told.
func (r *run) meetFilled(ctx context.Context) error {
	if r.firstRun() || r.memory.Entries == 0 || r.Accept {
		return nil
	}
	empty, err := r.targetEmpty(ctx)
	if err != nil {
		return r.notThere(err)
	}
	if empty {
		return &RefusedError{
			Reason: fmt.Sprintf("%s is empty and held %d entries after the last run (is the right disk mounted there?)", r.Profile.Target, r.memory.Entries),
			Lift:   liftAccept,
		}
	}
	return nil
}

// arrivedNothing reports whether everything failed: then a target that is empty is no sign of another disk.
func (r *run) arrivedNothing(ctx context.Context) (bool, error) {
	if len(r.result.Failed) == 0 {
		return false, nil
	}
	return r.targetEmpty(ctx)
}

// targetEmpty reports whether the target holds nothing, or only what mkfs makes.
func (r *run) targetEmpty(ctx context.Context) (bool, error) {
	if !r.Profile.Target.Local() {
		return r.engine.TargetEmpty(ctx)
	}
	dir, err := os.Open(r.Profile.Target.Path)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(2)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return !slices.ContainsFunc(names, func(name string) bool { return name != "lost+found" }), err
}

// stillMet makes sure that what was copied to is what was met.
func (r *run) stillMet(ctx context.Context) error {
	if t := r.Profile.Target; !t.Local() && !t.Daemon {
		id, err := r.identifyTarget(ctx)
		if err != nil {
			return err
		}
		if !r.memory.Target.same(id) {
			return fmt.Errorf("%s was unmounted or replaced during the run: it is %s, it was %s", t, id, r.memory.Target)
		}
	}
	return r.held.stillThere()
}

// identifyTarget asks what the target is. The zero identity is that of an rsync daemon's module,
// which cannot be asked.
func (r *run) identifyTarget(ctx context.Context) (identity, error) {
	t := r.Profile.Target
	switch {
	case t.Local():
		return hold(&r.held.target, t.Path)
	case t.Daemon:
		return identity{}, nil
	}
	remote, err := r.engine.RemoteIdentity(ctx)
	return identity{FileSystem: remote.UUID, Inode: remote.Inode, Born: remote.Birth}, err
}

func (r *run) makeTarget(ctx context.Context) (identity, error) {
	path := r.Profile.Target.Path
	if !r.Profile.Target.Local() || r.DryRun { // the remote rsync makes it
		return identity{}, nil
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return identity{}, err
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		return identity{}, err
	}
	return r.identifyTarget(ctx)
}

// guardDeletions counts what the run would delete before it deletes the first.
func (r *run) guardDeletions(ctx context.Context, p *plan) error {
	limit, lifted := r.Profile.MaxDelete, false
	if r.MaxDelete != nil {
		limit, lifted = *r.MaxDelete, *r.MaxDelete == profile.Limit{}
	}
	empty, err := r.tree.empty()
	if err != nil {
		return err
	}
	if empty && r.memory.Entries > 0 && !lifted {
		return &RefusedError{
			Reason: r.emptied(),
			Lift:   liftMaxDelete,
		}
	}
	unlimited := limit == (profile.Limit{})
	switch {
	case r.keepsExisting():
		return r.noteExisting(ctx, p)
	case unlimited && !r.fresh:
		return nil
	}
	gone, err := r.deletions(ctx, p)
	if err != nil {
		return fmt.Errorf("counting what would be deleted: %w", err)
	}
	deletions := r.withoutMoved(gone)
	if r.fresh {
		if err := r.guardFirst(deletions); err != nil || unlimited {
			return err
		}
		r.limitDeletions(limit, limit.Most(p.entries)+len(gone))
		return nil
	}
	if n := len(deletions); !limit.Allows(n, r.memory.Entries) {
		return &RefusedError{
			Reason: fmt.Sprintf("%d of %d entries of the target would be deleted; max_delete is %s", n, r.memory.Entries, limit),
			Lift:   liftMaxDelete,
		}
	}
	r.limitDeletions(limit, limit.Most(r.memory.Entries)+len(gone)-len(deletions))
	return nil
}

// limitDeletions has the run stop to delete after so many names, which the limit and what it does not count come to.
func (r *run) limitDeletions(limit profile.Limit, most int) {
	r.limit = limit
	r.engine.MaxDelete = func() int { return min(max(0, most-r.tally.total.Deleted), math.MaxInt32) } // rsync's int
}

// refuseRest is the error of a run that came upon more deletions than were counted before it began.
func (r *run) refuseRest() error {
	return &RefusedError{
		Reason: fmt.Sprintf("names went from the source during the run, and more than %d of %d entries of the target would be deleted; max_delete is %s",
			r.limit.Most(r.memory.Entries), r.memory.Entries, r.limit),
		Lift: liftMaxDelete,
	}
}

// emptied is what is said of an empty source.
func (r *run) emptied() string {
	for path := range r.tree.foreign {
		if _, err := r.tree.stat(path); err == nil && parent(path) == "." && isMountPoint(r.source.Path+"/"+path) {
			return fmt.Sprintf("%s has nothing left but mount points and held %d entries at the last run", r.Profile.Source, r.memory.Entries)
		}
	}
	return fmt.Sprintf("%s is empty and held %d entries at the last run (is it mounted?)", r.Profile.Source, r.memory.Entries)
}

func (r *run) firstRun() bool { return r.memory.LastFull.IsZero() }

func (r *run) keepsExisting() bool { return r.Existing == KeepExisting && r.fresh }

// noteExisting remembers the top-most names that the target holds and the source does not, so that
// this run and later ones keep them.
func (r *run) noteExisting(ctx context.Context, p *plan) error {
	existing := set{}
	_, err := r.dryEngine(func(item rsync.Item) {
		if item.Dir {
			item.Path += "/"
		}
		existing.add(item.Path)
	}).Extraneous(ctx, r.apartIn(p))
	if err != nil {
		return fmt.Errorf("looking for what the target holds already: %w", err)
	}
	r.addUnderMounts(existing)
	r.memory.Existing = nil
	for _, path := range existing.sorted() {
		if !existing.has(parent(strings.TrimSuffix(path, "/")) + "/") {
			r.memory.Existing = append(r.memory.Existing, []byte(path))
		}
	}
	r.setFilters()
	return nil
}

// addUnderMounts adds the directories that only the target has and in which something is mounted: rsync deletes none of
// them, and so does not tell them.
func (r *run) addUnderMounts(existing set) {
	for _, mount := range r.mounts {
		top := ""
		for dir := mount; dir != "."; dir = parent(dir) {
			if _, err := r.tree.stat(dir); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
				top = dir
			}
		}
		if top != "" {
			existing.add(top + "/")
		}
	}
}

// dryEngine is the run's engine without effect; visit is called for everything that it would delete.
func (r *run) dryEngine(visit func(item rsync.Item)) *rsync.Engine {
	dry := *r.engine
	dry.DryRun, dry.Progress = true, nil
	dry.Items = func(item rsync.Item) {
		if item.Action == rsync.Delete {
			visit(item)
		}
	}
	return &dry
}

// protected gives the rsync arguments that keep on the target, also where the source has a directory of the same name:
// what mkfs makes, rsince's own directories, and what a one-shot found there.
func (r *run) protected() []string {
	args := []string{"--filter=P /lost+found"}
	if t := r.Profile.Target; t.Local() {
		for _, disk := range append([]string{"."}, r.mounts...) {
			if hasLostFound(filepath.Join(t.Path, disk)) {
				args = append(args, "--filter=P "+filter.Subtree(joined(disk, "lost+found")))
			}
		}
		for _, own := range r.Own {
			if rel, ok := below(resolved(own), resolved(t.Path)); ok {
				args = append(args, "--filter=P "+filter.Subtree(rel))
			}
		}
	}
	if r.Existing == KeepExisting {
		for _, path := range r.memory.Existing {
			pattern := filter.Literal(string(path))
			if dir, ok := strings.CutSuffix(string(path), "/"); ok {
				pattern = filter.Subtree(dir)
			}
			args = append(args, "--filter=P "+pattern)
		}
	}
	return args
}

// hasLostFound reports whether a directory is the root of an ext file system, so that its lost+found (always inode 11,
// e2fsprogs) has what fsck found on that disk, and none of it comes from a source.
func hasLostFound(dir string) bool {
	const inode = 11
	var st unix.Stat_t
	return onType(dir, unix.EXT4_SUPER_MAGIC) && unix.Lstat(filepath.Join(dir, "lost+found"), &st) == nil && st.Ino == inode
}

// guardFirst protects what a target held before it was one.
func (r *run) guardFirst(deletions set) error {
	if len(deletions) == 0 || r.Accept || r.Existing == DeleteExisting {
		return nil
	}
	return &RefusedError{
		Reason: fmt.Sprintf("%s was never copied to and holds %d entries that the source does not have, the first %q; they would be deleted",
			r.Profile.Target, len(deletions), deletions.sorted()[0]),
		Lift: liftAccept,
	}
}

// deletions gives the names that would be deleted from the target. It asks the engine, except where the target can be looked at.
func (r *run) deletions(ctx context.Context, p *plan) (set, error) {
	deletions := set{} // two passes can have the same
	count := func(path string) { deletions.add(strings.TrimSuffix(path, "/")) }
	dry := r.dryEngine(func(item rsync.Item) { count(item.Path) })
	if r.record.Mode == modeFull {
		_, err := dry.Extraneous(ctx, r.apartIn(p))
		return deletions, err
	}
	for _, pass := range []func() error{
		func() error { return r.countGone(ctx, dry, p.gone, count) },
		func() error { return r.countReplaced(ctx, dry, p.single(), count) },
		func() error { _, err := dry.Subtrees(ctx, p.subtrees); return err },
		func() error { _, err := dry.ExtraneousIn(ctx, r.apartIn(p)); return err },
		func() error { _, err := dry.Directories(ctx, p.directories, true); return err },
		func() error { _, err := dry.Directories(ctx, p.listings, false); return err },
	} {
		if err := pass(); err != nil {
			return nil, err
		}
	}
	return deletions, nil
}

func (r *run) countGone(ctx context.Context, dry *rsync.Engine, gone []string, count func(path string)) error {
	if !r.Profile.Target.Local() {
		_, err := dry.Deletions(ctx, gone)
		return err
	}
	for _, path := range gone {
		if err := r.eachBelow(ctx, path, count); err != nil {
			return err
		}
	}
	return nil
}

// countReplaced counts what is below directories of the target that have to make way for something else.
func (r *run) countReplaced(ctx context.Context, dry *rsync.Engine, paths []string, count func(path string)) error {
	if !r.Profile.Target.Local() {
		_, err := dry.Paths(ctx, paths, false)
		return err
	}
	for _, path := range paths {
		var st unix.Stat_t
		err := unix.Lstat(filepath.Join(r.Profile.Target.Path, path), &st)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || r.isDirectory(path) {
			continue
		}
		err = r.eachBelow(ctx, path, func(found string) {
			if found != path {
				count(found)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachBelow calls visit for a name of a local target and everything below it; for none if there is none, nor for
// what mounts keep. What it may not read, or cannot for its depth, counts as empty: deleting it will fail, or not.
func (r *run) eachBelow(ctx context.Context, path string, visit func(path string)) error {
	root := r.Profile.Target.Path
	return filepath.WalkDir(filepath.Join(root, path), func(found string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), // the target may have a file where the source had a directory
			errors.Is(err, unix.EILSEQ): // a name that it cannot have
			return nil
		}
		rel, ok := below(found, filepath.Clean(root))
		switch {
		case ok && r.isMount(rel) && entry != nil && entry.IsDir():
			return filepath.SkipDir
		case ok && r.mountIn(rel) == "":
			visit(rel)
		}
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENAMETOOLONG) {
			err = nil
		}
		return errors.Join(err, ctx.Err())
	})
}

// withoutMoved leaves out names that the source has under others now. A new name is that of one old name: of files
// that were renamed onto each other one is left.
func (r *run) withoutMoved(gone set) set {
	lost, taken := set{}, set{}
	for _, path := range gone.sorted() {
		if to, ok := r.movedTo(path); ok && !taken.has(to) && r.tree.holds(to) {
			taken.add(to)
		} else {
			lost.add(path)
		}
	}
	return lost
}

// movedTo gives the name of what was renamed, or is below a directory that was, since the last run.
func (r *run) movedTo(path string) (to string, ok bool) {
	for from := path; from != "."; from = parent(from) {
		if to, ok := r.renamedTo(from); ok {
			return to + strings.TrimPrefix(path, from), true
		}
	}
	return "", false
}

// renamedTo follows a name through all its renames.
func (r *run) renamedTo(from string) (to string, ok bool) {
	to = from
	for range len(r.renames) {
		next, renamed := r.renames[to]
		if !renamed {
			break
		}
		to, ok = next, true
	}
	return to, ok && to != from
}

func renamesOf(batch []changes.Change) map[string]string {
	renames := map[string]string{}
	for _, c := range batch {
		if c.RenamedTo != "" {
			renames[c.Path] = c.RenamedTo
		}
	}
	return renames
}
