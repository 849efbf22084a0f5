package sync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rsince/changes"
	"rsince/logs"
	"rsince/sync/rsync"
)

// A Verification compares the target of a profile with its source and writes to neither. What the next
// run mends anyway is left out: what then differs was missed.
//
//	lock the target ─▶ compare ─▶ read the journal ─▶ leave out what it knows ─▶ repair: add the rest to it
type Verification struct {
	Job      *Job // of which Full, Accept, MaxDelete, Progress and Items mean nothing here
	Checksum bool // contents are compared also where size and time agree
	Repair   bool // what was missed goes into the journal
}

// Findings are what a Verification found.
type Findings struct {
	Run         logs.Run // its record
	Differences []Difference
	Pending     int             // names that differ and are known to the journal
	Failed      []rsync.Failure // names that could not be compared
}

// ErrNeverCopied says that there is nothing to verify yet.
var ErrNeverCopied = errors.New("no run has copied it yet")

// Run compares and returns what it found. The comparison has a record in the list of runs, and a log
// with the differences. The errors are those of a Job; without a run before it is ErrNeverCopied.
func (v *Verification) Run(ctx context.Context) (*Findings, error) {
	job := *v.Job
	job.DryRun = true
	r := &run{Job: &job, source: WatchedSource(job.Profile, job.Own)}
	var listErr error
	r.log, listErr = r.Runs.Begin(r.Profile.Name)
	r.record = r.log.Run()
	r.record.Mode, r.record.Engine = logs.Verify, "rsync"
	listErr = errors.Join(listErr, r.update())
	found, err := v.run(ctx, r)
	r.concludeVerification(ctx, found, err)
	found.Run = r.record
	listErr = errors.Join(listErr, r.log.End(r.record), r.Runs.Expire(r.Profile.Name, r.Profile.Logs.KeepRuns))
	if listErr != nil {
		r.warn("the list of runs: %v", listErr)
	}
	return found, err
}

func (v *Verification) run(ctx context.Context, r *run) (*Findings, error) {
	found := &Findings{}
	lock, err := lockTarget(ctx, r.Locks, r.Profile.Target, r.Profile.Name, r.Wait)
	if err != nil {
		return found, err
	}
	err = v.locked(ctx, r, lock, found)
	return found, errors.Join(err, r.held.release(), lock.release())
}

func (v *Verification) locked(ctx context.Context, r *run, lock *targetLock, found *Findings) (err error) {
	if r.memory, err = recall(r.Dir); err != nil {
		return err
	}
	if r.firstRun() {
		return &SkippedError{ErrNeverCopied}
	}
	r.engine = r.newEngine(lock)
	if err := r.meet(ctx); err != nil {
		return err
	}
	if r.retargeted {
		return &SkippedError{ErrNeverCopied}
	}
	if err := r.probe(ctx); err != nil {
		return err
	}
	before, err := r.cut(ctx)
	if err != nil {
		return err
	}
	if err := r.look(before.Cut); err != nil {
		return err
	}
	r.setFilters()
	c, err := r.compare(ctx, v.Checksum)
	if err != nil {
		return absent(err)
	}
	if err := r.stillMet(ctx); err != nil {
		return err
	}
	if err := r.judge(ctx, c, before, found); err != nil {
		return err
	}
	return v.keep(r, found)
}

// judge finds what was missed. A file that goes to another name between a look into the journal and one at
// the source is known to the next look.
func (r *run) judge(ctx context.Context, c *comparison, before *changes.Batch, found *Findings) error {
	const looks = 3
	var k knowledge
	var why string
	for range looks {
		batch, err := r.pendingSince(ctx, before)
		if err != nil {
			return err
		}
		if why = r.missed(batch); why != "" && r.obstacle(batch.Gaps) == "" {
			r.catalog, _ = catalogOf(r.Dir)
		}
		clear(r.tree.dirs) // what was seen at the look before
		known, err := r.known(ctx, batch)
		if err != nil {
			return err
		}
		k = append(k, known)
		if r.divide(c, k, found); len(found.Differences) == 0 {
			break
		}
	}
	r.tellDoubt(why)
	return nil
}

// keep remembers what was found and, for Repair, puts it into the journal.
func (v *Verification) keep(r *run, found *Findings) error {
	var mending []changes.Change
	for _, d := range found.Differences {
		r.say("%s: %q", strings.Join(d.What, ", "), d.Path)
		mending = append(mending, changes.Change{Path: d.Path, Kind: d.kind, Since: time.Now()})
	}
	if v.Repair && len(mending) > 0 {
		if err := changes.Add(Journal(r.Dir), mending); err != nil {
			return fmt.Errorf("putting what differs into the journal: %w", err)
		}
		r.say("%s put into the journal", counted(len(mending), "name"))
	}
	verified := &Verified{At: r.record.Started, Run: r.record.ID, Missed: len(found.Differences), Checksum: v.Checksum, Repaired: v.Repair}
	return verified.save(r.Dir)
}

// pendingSince is what is in the journal, added to what was in it before.
func (r *run) pendingSince(ctx context.Context, before *changes.Batch) (*changes.Batch, error) {
	batch, err := r.cut(ctx)
	if err != nil {
		return nil, err
	}
	r.record.Backend = cmp.Or(batch.Watch.Backend, "none")
	batch.Changes = slices.Concat(before.Changes, batch.Changes)
	batch.Gaps = slices.Concat(before.Gaps, batch.Gaps)
	return batch, nil
}

// known gathers what the next run would do.
func (r *run) known(ctx context.Context, batch *changes.Batch) (*known, error) {
	p := newPlanner(r.tree)
	p.sweep = r.memory.Unfinished
	for _, c := range batch.Changes {
		p.add(c)
	}
	for _, gap := range batch.Gaps {
		if gap.Subtree != "." {
			p.add(changes.Change{Path: gap.Subtree, Kind: changes.Subtree, Since: gap.Since})
		}
	}
	if err := r.addWriting(ctx, p); err != nil {
		return nil, err
	}
	if err := errors.Join(r.addOverlaid(ctx, p), r.addOtherNames(p), r.addRenewed(ctx, p, batch.Changes)); err != nil {
		return nil, err
	}
	since := r.modifiedSince
	if r.catalog != nil {
		since = time.Time{}
		if _, err := r.reconcile(ctx, p, newLinkFinder(r.tree), r.modifiedSince); err != nil {
			return nil, err
		}
	}
	plan, err := p.finish(ctx)
	if err != nil {
		return nil, err
	}
	return newKnown(r.tree, plan, since), nil
}

// tellDoubt tells why the next run compares more than the journal lists.
func (r *run) tellDoubt(why string) {
	switch {
	case r.memory.Owed != "":
		r.warn("the next run compares everything: %s", r.memory.Owed)
	case r.memory.Fingerprint != r.Profile.Fingerprint():
		r.warn("the next run compares everything: the profile has changed")
	}
	if why != "" && r.Profile.Watch.Backend != "none" {
		r.warn("%s; what was written since counts as pending", why)
	}
}

// concludeVerification puts the end of a comparison into its record.
func (r *run) concludeVerification(ctx context.Context, found *Findings, err error) {
	rec := &r.record
	rec.Ended = time.Now()
	rec.Missed, rec.Errors = len(found.Differences), len(found.Failed)
	rec.State = stateOf(ctx, err)
	switch {
	case rec.State == logs.Interrupted:
		rec.Message = "interrupted by a signal"
	case err != nil:
		rec.Message = err.Error()
	case rec.Missed > 0:
		rec.State = logs.Partial
		first := found.Differences[0]
		rec.Message = fmt.Sprintf("%s missed, the first %q: %s", counted(rec.Missed, "difference"), first.Path, strings.Join(first.What, ", "))
	case rec.Errors > 0:
		rec.State = logs.Partial
		rec.Message = fmt.Sprintf("%s could not be compared, the first %q: %s", counted(rec.Errors, "path"), found.Failed[0].Path, found.Failed[0].Reason)
	}
	if pending, _, err := changes.Pending(Journal(r.Dir)); err == nil {
		rec.PendingAfter = changes.Paths(pending)
	}
}
