// Package sync runs profiles: it brings a target up to date with a source, copying only what has
// changed since the last run as far as that is known.
//
//	lock the target ─▶ cut the journal ─▶ plan ─▶ guards ─▶ engine's passes ─▶ make durable ─▶ acknowledge
//
// The batch that the cut takes goes back to the journal unless the run comes to its end, and what
// failed goes back in any case. Nothing is written before the guards have agreed.
package sync

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rsince/changes"
	"rsince/changes/scan"
	"rsince/logs"
	"rsince/sync/profile"
	"rsince/sync/rsync"
)

// A Job is one profile to be run once.
type Job struct {
	Profile *profile.Profile
	Dir     string   // what is kept between runs of this profile: journal and memory
	Locks   string   // the directory of all locks on targets
	Socket  string   // of the watcher
	Own     []string // rsince's own directories, which are never copied
	Runs    *logs.List

	Full   bool // compare everything
	Accept bool // source and target are meant, whatever they were before; makes the run full
	DryRun bool // change nothing, record nothing
	// Existing says what a first run does about a target that already holds something.
	Existing Existing
	// MaxDelete takes the place of the profile's max_delete; nil: the profile's holds. "none" also
	// lifts the guard against an empty source.
	MaxDelete *profile.Limit
	Wait      time.Duration // for the lock on the target

	// Progress is called a few times a second with how far the run is, of how many listed entries;
	// 0 of a full pass. nil: nothing.
	Progress func(p rsync.Progress, listed int)
	// Items is called for each change of the target. nil: nothing.
	Items func(rsync.Item)
	// Warn is called with what costs the user something but does not end the run. nil: nothing.
	Warn func(string)
}

// Existing is what is to become of names on the target that were there before the first run and
// that the source does not have.
type Existing uint8

const (
	RefuseExisting Existing = iota // the run is refused
	KeepExisting                   // they stay
	DeleteExisting                 // they are deleted, like everything else the source does not have
)

// A SkippedError says that there was nothing to run on: the source or the target is not there.
type SkippedError struct{ Err error }

func (e *SkippedError) Error() string { return e.Err.Error() }
func (e *SkippedError) Unwrap() error { return e.Err }

// absent turns the error of a target that cannot be reached into a SkippedError.
func absent(err error) error {
	if errors.Is(err, rsync.ErrUnreachable) {
		return &SkippedError{fmt.Errorf("the target is not there: %w", err)}
	}
	return err
}

// Journal is the directory of the profile's journal below its Dir.
func Journal(dir string) string { return filepath.Join(dir, "journal") }

// WatchedSource is the profile's source as its watcher and its runs see it.
func WatchedSource(p *profile.Profile, own []string) changes.Source {
	s := changes.Source{Path: resolved(p.Source), OneFileSystem: p.OneFileSystem}
	for _, dir := range own {
		s.Skip = append(s.Skip, resolved(dir))
	}
	if p.Target.Local() {
		s.Skip = append(s.Skip, resolved(p.Target.Path))
	}
	return s
}

// run is a Job on its way.
type run struct {
	*Job
	log    *logs.Log // nil in a dry run
	record logs.Run
	source changes.Source
	tree   *tree
	memory *memory
	held   held
	mounts []string // in a local target, relative to it
	// mounted are the same, with what they are; remounted where that is not what was there at the last run.
	mounted   []targetMount
	remounted set
	limit     profile.Limit
	engine    *rsync.Engine
	result    rsync.Result
	tally     *tally
	probed    bool // the target was asked what it keeps, by writing to it

	retargeted bool // the profile has another target than at the last run
	others     bool // runs of other profiles have copied to the target since
	fresh      bool // nothing that the target holds is ours: no run has begun to copy to it

	// renames are the renames within the source since the last run: old names and the new ones.
	renames  map[string]string
	cutBegan time.Time // just before the batch was cut, with a reading of the monotonic clock
	// modifiedSince is the time from which on everything that has a ctime counts as modified; zero
	// if there is no such time.
	modifiedSince time.Time
	catalog       *scan.Catalog // of what runs have copied; nil: it is not needed, or of no use
	// incompleteCatalog: what agrees with the catalog may have been changed, and ctimes have to tell as well.
	incompleteCatalog bool
	reconciling       bool          // the source is to be held against the catalog
	clockSetBack      bool          // since the last run; ctimes tell nothing about order
	named             otherNames    // what is remembered of files that are not in doubt
	forgotten         bool          // more was remembered
	ripe              time.Duration // see planner
	unfound           []string      // why files known by their handle could not be looked for
	// differing is what this run found different on the target, where it should know of all; nil elsewhere. Reported
	// are the names that it was told of.
	differing map[string]aspects
	reported  set
	madeEmpty set                // directories that a pass made on the target which copies nothing in them
	unalike   map[string]aspects // what a full pass would leave as it is on the target
	layers    [][]byte           // directories of the source that are upper ones of overlays
	open      []writing          // files that somebody has open for writing
	unseen    []string           // where such files could not be looked for
}

// Run runs the job and returns its record, which is also written to the list of runs. The error is
// a *LockedError, a *SkippedError or a *RefusedError if the run did not begin to copy, and the
// context's if it was interrupted. Paths that failed are no error: the state tells.
func (j *Job) Run(ctx context.Context) (logs.Run, error) {
	r := &run{Job: j, source: WatchedSource(j.Profile, j.Own)}
	if coarseTimes() {
		r.ripe = ripeAge
	}
	if j.DryRun {
		r.record.Profile, r.record.Started = j.Profile.Name, time.Now()
		err := r.run(ctx)
		r.conclude(ctx, err)
		return r.record, err
	}
	return r.recorded(ctx)
}

// recorded runs with a record and a log.
func (r *run) recorded(ctx context.Context) (logs.Run, error) {
	var listErr error
	r.log, listErr = r.Runs.Begin(r.Profile.Name)
	r.record = r.log.Run()
	r.say("%s: %s to %s", r.Profile.Name, r.Profile.Source, r.Profile.Target)
	err := r.run(ctx)
	r.conclude(ctx, err)
	listErr = errors.Join(listErr, r.log.End(r.record), r.Runs.Expire(r.Profile.Name, r.Profile.Logs.KeepRuns))
	if listErr != nil {
		r.warn("the list of runs: %v", listErr)
	}
	return r.record, err
}

func (r *run) run(ctx context.Context) error {
	lock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	err = r.locked(ctx, lock)
	return errors.Join(err, r.held.release(), lock.release())
}

func (r *run) lock(ctx context.Context) (*targetLock, error) {
	if r.DryRun {
		return &targetLock{}, nil
	}
	return lockTarget(ctx, r.Locks, r.Profile.Target, r.Profile.Name, r.Wait)
}

func (r *run) locked(ctx context.Context, lock *targetLock) (err error) {
	if !r.DryRun {
		if err := os.MkdirAll(r.Dir, 0o700); err != nil {
			return err
		}
	}
	if r.memory, err = recall(r.Dir); err != nil {
		return err
	}
	r.engine = r.newEngine(lock)
	if err := r.meet(ctx); err != nil {
		return err
	}
	r.fresh = r.firstRun() && !r.memory.Begun
	r.lookForOthers()
	if err := r.makeRemote(ctx); err != nil {
		return absent(err)
	}
	if err := r.probe(ctx); err != nil {
		return absent(err)
	}
	if err := r.lookForUnwritten(ctx); err != nil {
		return err
	}
	batch, err := r.cut(ctx)
	if err != nil {
		return err
	}
	err = r.carry(ctx, batch)
	return errors.Join(err, batch.Return())
}

// meet makes sure that source and target are what they were, and learns about both.
func (r *run) meet(ctx context.Context) error {
	if err := r.meetSource(); err != nil {
		return err
	}
	if err := r.meetTarget(ctx); err != nil {
		return err
	}
	var err error
	if r.engine.Held, err = rsync.Held(r.held.source); err != nil {
		r.say("rsync looks for the source by its path: %v", err)
	}
	r.engine.Met = r.held.stillThere
	return nil
}

// cut takes the batch; a dry run only looks at what is pending.
func (r *run) cut(ctx context.Context) (*changes.Batch, error) {
	r.cutBegan = time.Now()
	journal := Journal(r.Dir)
	if !r.DryRun {
		return changes.Cut(ctx, r.Socket, journal, r.Profile.Name)
	}
	batch := &changes.Batch{Cut: time.Now()}
	watch, err := r.settled(ctx)
	if err != nil && !errors.Is(err, changes.ErrNoWatcher) {
		return nil, err
	}
	batch.Watch = watch
	if err != nil {
		batch.Gaps = append(batch.Gaps, changes.Gap{Reason: err.Error(), Subtree: ".", Since: changes.KnownUntil(journal)})
	}
	pending, gaps, err := changes.Pending(journal)
	batch.Changes, batch.Gaps = pending, append(batch.Gaps, gaps...)
	return batch, err
}

// settled has the watcher write down all that happened so far, and returns what it says of the profile.
func (r *run) settled(ctx context.Context) (changes.Status, error) {
	if err := changes.Settle(ctx, r.Socket, r.Profile.Name); err != nil {
		return changes.Status{}, err
	}
	watched, err := changes.Ask(ctx, r.Socket)
	status := watched[r.Profile.Name]
	if err == nil && status.Backend == "" {
		err = changes.ErrNoWatcher
	}
	return status, err
}

// look learns what is part of the source. It comes after the cut: where something was mounted before,
// the batch has a gap, which is not to lead into it.
func (r *run) look(cut time.Time) (err error) {
	if r.tree, err = newTree(r.source, r.Profile.Filter, cut, r.cutBegan); err != nil {
		return err
	}
	return nil
}

// setFilters tells the engine what is left alone on either side. It comes after the plan: what that takes for gone is to
// be kept where something is mounted.
func (r *run) setFilters() {
	r.engine.Filters = slices.Concat(r.protected(), r.pinned(), r.tree.filters())
}

// carry copies what the batch and the mode ask for and acknowledges it.
func (r *run) carry(ctx context.Context, batch *changes.Batch) error {
	if err := r.look(batch.Cut); err != nil {
		return err
	}
	r.chooseMode(batch)
	r.renames = renamesOf(batch.Changes)
	plan, err := r.plan(ctx, batch)
	if err != nil {
		return err
	}
	r.setFilters()
	r.record.Listed = plan.listed()
	for _, c := range plan.carried {
		if c.Error != "" {
			r.unfound = append(r.unfound, c.Error)
		}
	}
	if err := r.update(); err != nil {
		r.warn("the list of runs: %v", err)
	}
	if err := r.guardDeletions(ctx, plan); err != nil {
		return err
	}
	if r.DryRun {
		return r.transfer(ctx, plan)
	}
	disks, err := r.openDisks()
	if err != nil {
		return err
	}
	if r.memory.Copied.IsZero() {
		r.memory.Copied = batch.Cut
	}
	if err := r.transfer(ctx, plan); err != nil {
		return errors.Join(err, disks.close())
	}
	if err := disks.sync(ctx); err != nil {
		return errors.Join(err, r.noteUnwritten(ctx, err))
	}
	if err := r.stillMet(ctx); err != nil {
		return err
	}
	if err := r.countMissed(ctx, batch, plan); err != nil {
		r.warn("what was missed is not counted: %v", err)
	}
	return r.acknowledge(ctx, batch, plan)
}

// update shows in the list of runs what has become known of this one.
func (r *run) update() error {
	if r.log == nil {
		return nil
	}
	return r.log.Update(r.record)
}

// acknowledge takes from the journal what has been copied, and remembers the run.
func (r *run) acknowledge(ctx context.Context, batch *changes.Batch, plan *plan) error {
	if err := r.rememberNames(plan); err != nil {
		return err
	}
	pending, err := r.stillPending(ctx, plan)
	if err != nil {
		return err
	}
	if err := r.noteCopied(ctx, batch, plan, pending); err != nil {
		return err
	}
	if err := batch.Acknowledge(pending); err != nil {
		return err
	}
	m := r.memory
	m.Unfinished = r.result.Killed || r.result.Leftovers
	m.Writing, m.Unseen, m.Layers = r.open, r.unseen, r.layers
	m.Mounts = r.mounted
	m.Misheard = r.mishears(batch)
	m.Copied = batch.Cut
	for _, c := range pending {
		if c.Since.Before(m.Copied) {
			m.Copied = c.Since
		}
	}
	m.Entries = max(0, m.Entries+r.result.Created-r.result.Deleted)
	if r.record.Mode == modeFull || r.reconciling {
		m.Entries = plan.entries
	}
	if empty, err := r.arrivedNothing(ctx); err == nil && empty {
		m.Entries = 0
	}
	if r.record.Mode == modeFull {
		m.LastFull, m.Fingerprint = batch.Cut, r.Profile.Fingerprint()
		if m.Owed = r.incomplete(); m.Owed == "" {
			m.Unwritten, m.Replaced = false, false
		}
	}
	return m.save()
}

// conclude puts the end of the run into its record.
func (r *run) conclude(ctx context.Context, err error) {
	rec := &r.record
	rec.Ended = time.Now()
	rec.Created, rec.Updated, rec.Deleted = r.result.Created, r.result.Updated, r.result.Deleted
	failed := r.result.Failed
	rec.Bytes, rec.Errors = r.result.Bytes, len(failed)+len(r.unfound)
	rec.State = stateOf(ctx, err)
	switch {
	case rec.State == logs.Interrupted:
		rec.Message = "interrupted by a signal; all changes are still pending"
	case err != nil:
		rec.Message = err.Error()
	case len(failed) > 0:
		rec.State = logs.Partial
		rec.Message = fmt.Sprintf("%s failed, the first %q: %s", counted(rec.Errors, "path"), failed[0].Path, failed[0].Reason)
	case len(r.unfound) > 0:
		rec.State = logs.Partial
		rec.Message = fmt.Sprintf("%s could not be looked for: %s", counted(rec.Errors, "changed file"), r.unfound[0])
	}
	if pending, _, err := changes.Pending(Journal(r.Dir)); err == nil {
		rec.PendingAfter = changes.Paths(pending)
	}
}

func stateOf(ctx context.Context, err error) logs.State {
	var locked *LockedError
	var skipped *SkippedError
	var refused *RefusedError
	switch {
	case err == nil:
		return logs.OK
	case errors.As(err, &locked), errors.As(err, &skipped):
		return logs.Skipped
	case errors.As(err, &refused):
		return logs.Refused
	case ctx.Err() != nil:
		return logs.Interrupted
	}
	return logs.Failed
}

func (r *run) say(format string, args ...any) {
	if r.log != nil {
		r.log.Printf(format, args...)
	}
}

// warn puts into the log and before the user what costs something but does not end the run.
func (r *run) warn(format string, args ...any) {
	r.say("warning: "+format, args...)
	if r.Warn != nil {
		r.Warn(fmt.Sprintf(format, args...))
	}
}

// counted gives "1 path", "2 paths".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
