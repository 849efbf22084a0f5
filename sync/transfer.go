package sync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/sync/profile"
	"rsince/sync/rsync"
)

// newEngine fills in what does not depend on the target's capabilities.
func (r *run) newEngine(lock *targetLock) *rsync.Engine {
	p := r.Profile
	r.tally = newTally(r.Items)
	e := &rsync.Engine{
		Source: r.source.Path, Target: p.Target.String(),
		OneFileSystem: p.OneFileSystem && !onType(r.source.Path, unix.BTRFS_SUPER_MAGIC), // a subvolume is no mount
		Options:       p.RsyncOptions, Stall: p.Stall, Nice: p.Priority.Nice, IO: p.Priority.IO,
		Inherit: lock.files, DryRun: r.DryRun, Items: r.take, Log: io.Discard,
	}
	if r.log != nil {
		e.Log = r.log
	}
	if disks, err := disksOf(p.Target); err != nil || slices.ContainsFunc(disks, onFUSE) {
		// FUSE hands syncfs on to virtiofs only (fuse_sync_fs, Linux 5.14).
		e.Options = append(slices.Clone(e.Options), "--fsync")
	}
	if r.Progress != nil {
		e.Progress = func(p rsync.Progress) { r.Progress(p, r.record.Listed) }
	}
	return e
}

// onFUSE reports whether a file system in user space holds the directory, or would hold it.
func onFUSE(dir string) bool { return onType(dir, unix.FUSE_SUPER_MAGIC) }

// onType reports whether a file system with this magic number (statfs(2)) holds the directory, or would.
func onType(dir string, magic int64) bool {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	if errors.Is(err, unix.ENOENT) && dir != "/" {
		return onType(filepath.Dir(dir), magic)
	}
	return err == nil && int64(st.Type) == magic
}

// makeRemote has rsync make a target on another machine before the first run, which is to know it.
// Nothing of one that is there is changed.
func (r *run) makeRemote(ctx context.Context) error {
	m := r.memory
	if r.DryRun || r.Profile.Target.Local() || m.Target != (identity{}) || !r.firstRun() {
		return nil
	}
	making := *r.engine
	making.Progress = nil
	making.Options = append(slices.Clone(making.Options), "--omit-dir-times")
	if _, err := making.Paths(ctx, []string{"."}, false); err != nil {
		return fmt.Errorf("making %s: %w", r.Profile.Target, err)
	}
	var err error
	m.Target, err = r.identifyTarget(ctx)
	return err
}

// asked stands for what a target is asked, and changes with it.
const asked = "2\x00"

// probe finds out once per target what it keeps, and remembers it. A dry run takes an unknown
// target for one that keeps everything.
func (r *run) probe(ctx context.Context) error {
	m := r.memory
	key := asked + r.engine.Target + "\x00" + fmt.Sprintf("%q", r.engine.Options) + m.Target.String()
	if r.DryRun && (m.Capabilities == nil || m.Probed != key) {
		r.engine.Capabilities = keepsAll()
		return nil
	}
	known := m.Capabilities != nil && m.Probed == key
	if known && (r.DryRun || !r.Full && !r.Accept && !r.diedProbing()) {
		r.engine.Capabilities = *m.Capabilities
		return nil
	}
	r.probed = true
	err := r.askTarget(ctx)
	if known && err != nil && ctx.Err() == nil && !errors.Is(err, rsync.ErrUnreachable) { // a full target is one that deletions make room on
		r.say("the target cannot be asked what it keeps, and is taken to keep what it did: %v", err)
		r.engine.Capabilities = *m.Capabilities
		return nil
	}
	if err != nil {
		return err
	}
	m.Capabilities, m.Probed = &r.engine.Capabilities, key
	for _, given := range m.Capabilities.GivenUp {
		r.warn("%s: %s", r.Profile.Target, given)
	}
	return nil
}

// keepsAll are the capabilities of a target on a usual Linux file system.
func keepsAll() rsync.Capabilities {
	return rsync.Capabilities{
		Xattrs: true, ACLs: true, Owners: true, Permissions: true, Hardlinks: true, Symlinks: true, Specials: true,
		TimeGranularity: 1, DeleteMissingArgs: true, Fsync: true,
	}
}

// askTarget asks the target what it keeps.
func (r *run) askTarget(ctx context.Context) error {
	release, err := r.probing()
	if err != nil {
		return err
	}
	asking := *r.engine
	asking.DryRun, asking.Items, asking.Progress = false, nil, nil
	c, err := asking.Probe(ctx)
	if err != nil {
		return fmt.Errorf("finding out what %s keeps: %w", r.Profile.Target, err)
	}
	r.engine.Capabilities = c
	return release()
}

// A pass is one of the engine's.
type pass func() (rsync.Result, error)

// transfer runs the passes. Updates come before deletions, so that what was renamed is there under
// its new name before the old one goes; but where the target is full, deletions make room, and where it folds names, the
// old one may be the new one.
func (r *run) transfer(ctx context.Context, p *plan) error {
	if err := r.begin(p); err != nil {
		return err
	}
	e := r.engine
	full := e
	if r.memory.Replaced {
		r.say("contents are compared: another source was copied here before")
		full = r.byContent(e)
	}
	updatesFirst, deletionsFirst, inMounts := r.passes(ctx, p)
	order := updatesFirst
	if e.Capabilities.FoldsNames {
		order = deletionsFirst
	}
	err := r.inTurn(order)
	if errors.Is(err, rsync.ErrTargetFull) {
		r.say("the target is full: deletions first")
		r.result.Failed = nil // all of it is done again
		err = r.inTurn(deletionsFirst)
	}
	if err == nil && r.record.Mode == modeFull {
		if !r.DryRun {
			r.tally.again = setOf(slices.Concat(p.allLinks...))
		}
		err = r.inTurn(append(inMounts,
			func() (rsync.Result, error) { return full.Full(ctx, !r.keepsExisting()) },
			func() (rsync.Result, error) { return e.Links(ctx, p.allLinks, false) },
		))
	}
	if err == nil {
		err = r.fitAgain(ctx, p)
	}
	if err == nil && r.result.Killed && !r.DryRun {
		err = r.sweep(ctx, p)
	}
	if errors.Is(err, rsync.ErrTooManyDeletions) {
		err = r.refuseRest()
	}
	r.failMounts(p.gone)
	r.tally.count(&r.result, r.DryRun)
	if err == nil {
		r.tellKept()
	}
	return err
}

// passes gives the passes over a plan's lists in the two orders that they can have, and those that a full run begins
// with in what the target has mounted.
func (r *run) passes(ctx context.Context, p *plan) (updatesFirst, deletionsFirst, inMounts []pass) {
	e := r.engine
	r.madeEmpty = set{}
	lister := noting(e, func(item rsync.Item) {
		if item.Action == rsync.Create && item.Dir {
			r.madeEmpty.add(item.Path)
		}
	})
	single := []pass{
		func() (rsync.Result, error) { return r.split(ctx, p) },
		func() (rsync.Result, error) { return e.Paths(ctx, p.content, true) },
		func() (rsync.Result, error) { return e.Paths(ctx, p.attributes, false) },
	}
	listing := []pass{
		func() (rsync.Result, error) { return lister.Directories(ctx, p.directories, true) },
		func() (rsync.Result, error) { return lister.Directories(ctx, p.listings, false) },
	}
	subtrees := []pass{func() (rsync.Result, error) { return e.Subtrees(ctx, p.subtrees) }}
	if !r.keepsExisting() {
		inMounts = []pass{func() (rsync.Result, error) { return r.alike(ctx, r.apartIn(p)) }}
	}
	if r.record.Mode != modeFull { // a full run links first, as where nothing is mounted
		subtrees = append(subtrees, inMounts...)
	}
	links := []pass{func() (rsync.Result, error) { return r.link(ctx, p.links) }}
	gone := slices.DeleteFunc(slices.Clone(p.gone), r.isMount)
	deletions := []pass{func() (rsync.Result, error) { return e.Deletions(ctx, gone) }}
	updatesFirst = slices.Concat(single, subtrees, listing, links, deletions)
	deletionsFirst = slices.Concat(deletions, listing, subtrees, single, links)
	return updatesFirst, deletionsFirst, inMounts
}

// alike brings mounts in line. What did not fit before there, and has come now that others have gone, has not failed.
func (r *run) alike(ctx context.Context, mounts []string) (rsync.Result, error) {
	come := set{}
	res, err := noting(r.engine, func(item rsync.Item) {
		if item.Action == rsync.Create {
			come.add(item.Path)
		}
	}).Alike(ctx, mounts)
	if err != nil {
		return res, err
	}
	for _, f := range res.Failed {
		delete(come, f.Path)
	}
	r.result.Failed = slices.DeleteFunc(r.result.Failed, func(f rsync.Failure) bool { return f.NoRoom() && come.has(f.Path) })
	return res, nil
}

// noting is e so that note is told as well what it does.
func noting(e *rsync.Engine, note func(rsync.Item)) *rsync.Engine {
	noting := *e
	noting.Items = func(item rsync.Item) {
		note(item)
		e.Items(item)
	}
	return &noting
}

// tellKept tells which directories stay because of excluded names. What holds the others is told as what failed.
func (r *run) tellKept() {
	failing := set{}
	for _, f := range r.result.Failed {
		for path := f.Path; path != "."; path = parent(path) {
			failing.add(path)
		}
	}
	for _, dir := range setOf(r.result.Kept).sorted() {
		if !failing.has(dir) {
			r.say("%q is gone from the source and stays on the target because of excluded names in it", dir)
		}
	}
}

// link copies files with several names. In a dry run rsync passes over names that the target has linked to the one
// it would copy; but that one would become another file, and they would be linked to it anew.
func (r *run) link(ctx context.Context, groups [][]string) (rsync.Result, error) {
	if !r.DryRun || !r.engine.Capabilities.Hardlinks {
		return r.engine.Links(ctx, groups, true)
	}
	anew := set{}
	telling := r.telling(func(item rsync.Item) {
		if item.Changes != "" && strings.Contains("<>c", item.Changes[:1]) { // not linked to another
			anew.add(item.Path)
		}
		r.tally.take(item)
	})
	res, err := telling.Links(ctx, groups, true)
	for _, names := range groups {
		if !slices.ContainsFunc(names, anew.has) {
			continue
		}
		for _, name := range names {
			r.tally.take(rsync.Item{Action: rsync.Update, Path: name})
		}
	}
	return res, err
}

// fitAgain tries what did not fit once more if the run has deleted something.
func (r *run) fitAgain(ctx context.Context, p *plan) error {
	var names, subtrees []string
	groups := p.allNamed.with(p.named).names()
	linked, again := setOf(groups...), set{}
	failed := slices.DeleteFunc(slices.Clone(r.result.Failed), func(f rsync.Failure) bool {
		switch {
		case !f.NoRoom():
			return false
		case r.failed(p, f).Kind == changes.Subtree:
			subtrees = append(subtrees, f.Path)
		case linked.has(f.Path):
			again.add(f.Path)
		default:
			names = append(names, f.Path)
		}
		return true
	})
	if len(failed) == len(r.result.Failed) || r.result.Deleted == 0 {
		return nil
	}
	groups = slices.DeleteFunc(groups, func(names []string) bool { return !slices.ContainsFunc(names, again.has) })
	r.say("deletions have made room: what did not fit is tried again")
	r.result.Failed = failed
	return r.inTurn([]pass{
		func() (rsync.Result, error) { return r.engine.Paths(ctx, names, true) },
		func() (rsync.Result, error) { return r.engine.Subtrees(ctx, subtrees) },
		func() (rsync.Result, error) { return r.engine.Links(ctx, groups, true) },
	})
}

// sweep removes temporary files that an rsync which was killed, and after which others have done its work, has left
// beside what it was given by name. Passes that find names remove what is left among those, unless they delete nothing.
func (r *run) sweep(ctx context.Context, p *plan) error {
	if r.keepsExisting() {
		r.say("an rsync was killed: what it may have left is removed, and what the target held before is not")
		return r.inTurn([]pass{func() (rsync.Result, error) { return r.engine.Full(ctx, true) }})
	}
	dirs := set{}
	for _, path := range slices.Concat(append(slices.Clone(p.allLinks), p.single())...) {
		if dir := parent(path); r.isDirectory(dir) {
			dirs.add(dir)
		}
	}
	r.say("an rsync was killed: what it may have left is removed in %s", counted(len(dirs), "place"))
	return r.inTurn([]pass{func() (rsync.Result, error) { return r.engine.Directories(ctx, dirs.sorted(), false) }})
}

// inTurn runs passes until one fails as a whole.
func (r *run) inTurn(passes []pass) error {
	for _, pass := range passes {
		res, err := pass()
		r.result.Add(res)
		if err != nil {
			return err
		}
	}
	return nil
}

// begin notes durably that the target is being written to.
func (r *run) begin(p *plan) error {
	if r.DryRun {
		return nil
	}
	if r.fresh {
		r.memory.Entries = p.entries
	}
	r.memory.Unfinished, r.memory.Begun = true, true
	r.rememberWriting()
	if r.record.Mode == modeFull { // the source and target that this one accepted are remembered now
		r.memory.Owed = "a full run did not come to its end"
	}
	if err := r.memory.save(); err != nil {
		return err
	}
	if r.record.Mode != modeChanges {
		if err := r.putCatalogAside(); err != nil {
			return err
		}
	}
	return r.noteLast() // after that nothing but the catalog's absence tells that others have copied
}

// disks are the file systems that a run writes to, opened before its first write: syncfs(2) on a
// descriptor reports what failed to be written since it was opened.
type disks struct {
	files  []*os.File
	remote *rsync.Engine // makes the other machine's disk durable; nil if there is none
}

func (r *run) openDisks() (*disks, error) {
	target := r.Profile.Target
	switch {
	case target.Daemon: // nobody there can be asked: rsync's own --fsync is all there is
		return &disks{}, nil
	case !target.Local():
		return &disks{remote: r.engine}, nil
	}
	dirs, err := disksOf(target)
	if err != nil {
		return nil, err
	}
	d := &disks{}
	for _, dir := range dirs {
		f, err := os.Open(dir)
		if err != nil {
			return nil, errors.Join(err, d.close())
		}
		d.files = append(d.files, f)
	}
	return d, nil
}

// disksOf gives a local target and the mount points below it.
func disksOf(target profile.Target) ([]string, error) {
	if !target.Local() {
		return nil, nil
	}
	root := resolved(target.Path)
	mounts, err := mountsBelow(root)
	return append([]string{root}, mounts...), err
}

// sync returns when everything written is on the disks.
func (d *disks) sync(ctx context.Context) error {
	var errs []error
	for _, f := range d.files {
		if err := unix.Syncfs(int(f.Fd())); err != nil {
			errs = append(errs, fmt.Errorf("making %s durable: %w", f.Name(), err))
		}
	}
	if d.remote != nil {
		errs = append(errs, d.remote.SyncRemote(ctx))
	}
	return errors.Join(append(errs, d.close())...)
}

// lookForUnwritten looks whether the disk has what a full run wrote that died before it asked: syncfs(2) also reports
// an error from before it was opened, if nobody has asked since.
func (r *run) lookForUnwritten(ctx context.Context) error {
	if r.DryRun || r.memory.Owed == "" || !r.Profile.Target.Local() {
		return nil
	}
	disks, err := r.openDisks()
	if err != nil {
		return err
	}
	if err := disks.sync(ctx); err != nil {
		r.say("what the run before wrote: %v", err)
		r.memory.Unwritten = true
	}
	return nil
}

// noteUnwritten remembers that the target's disk did not take what a full run wrote. The kernel goes on showing it,
// and a file of which it is true looks as it should by size and time. (What a list has is copied again in any case.)
func (r *run) noteUnwritten(ctx context.Context, err error) error {
	if r.record.Mode != modeFull || ctx.Err() != nil || errors.Is(err, rsync.ErrUnreachable) {
		return nil
	}
	r.memory.Unwritten = true
	return r.memory.save()
}

func (d *disks) close() error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
