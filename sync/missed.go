package sync

import (
	"context"
	"maps"
	"slices"
	"strings"

	"rsince/changes"
	"rsince/sync/rsync"
)

// A full run brings everything in line, also what nobody told of: what the watcher missed, or somebody else
// changed on the target. Where it should have heard of all there is, it counts that, as a verification does.
//
//	cut ─▶ passes, noting what each really changes ─▶ read the journal ─▶ leave out what it knows

// shouldKnowAll reports whether whatever this run finds different, but for what it was told, was missed.
func (r *run) shouldKnowAll(batch *changes.Batch, missed string) bool {
	m := r.memory
	return !r.DryRun && !m.Unwritten && !r.Accept && !r.retargeted && !r.firstRun() && batch.Watch.Backend != "" && missed == "" &&
		m.Owed == "" && !m.Unfinished && m.Fingerprint == r.Profile.Fingerprint() && !(r.namesOnly() && r.namesDamaged())
}

// take takes what a pass does to the target.
func (r *run) take(item rsync.Item) {
	if a := aspectsOf(item) | relinked(item); r.differing != nil && a != 0 && item.Changes != onlyTime {
		r.differing[item.Path] |= a
	}
	r.tally.take(item)
}

// relinked is that a name is made another one of a file.
func relinked(item rsync.Item) aspects {
	if strings.HasPrefix(item.Changes, "h") {
		return otherLinks
	}
	return 0
}

// noteReported keeps what the run was told, before it looks for itself.
func (r *run) noteReported(p *planner) {
	if r.differing != nil {
		r.reported = setOf(slices.Collect(maps.Keys(p.changes)))
	}
}

// countMissed counts what the run has changed and nobody had told of. What happened while it ran is told by now.
func (r *run) countMissed(ctx context.Context, batch *changes.Batch, p *plan) error {
	if r.differing == nil {
		return nil
	}
	r.dropOwn(p)
	const looks = 3 // as for a verification
	k := knowledge{r.toldOf(p)}
	var missed map[string]aspects
	for range looks {
		known, err := r.toldSince(ctx, batch)
		if err != nil {
			return err
		}
		if known == nil {
			r.say("what was missed is not counted: not everything was heard while the run went on")
			return nil
		}
		k = append(k, known)
		missed = maps.Clone(r.differing)
		maps.DeleteFunc(missed, k.covers)
		if dropImplied(missed); len(missed) == 0 {
			break
		}
	}
	return r.tellMissed(missed)
}

// dropOwn leaves out what this run itself made different: what it removed to make it anew, and links to a file that it
// copied anew. What it found to be another file stays in.
func (r *run) dropOwn(p *plan) {
	for _, dir := range r.result.Kept {
		delete(r.differing, dir)
	}
	copied := setOf(p.links...)
	for _, names := range p.allLinks {
		if slices.ContainsFunc(names, func(name string) bool { return r.differing[name]&^otherLinks != 0 }) {
			maps.Copy(copied, setOf(names))
		}
	}
	maps.DeleteFunc(r.differing, func(path string, a aspects) bool {
		return r.tally.remade.has(path) || a == otherLinks && copied.has(path)
	})
	maps.Copy(r.differing, r.unalike)
}

// toldOf is what was known when the run began, whatever became of it since.
func (r *run) toldOf(p *plan) *known {
	names := maps.Clone(r.reported)
	for _, group := range p.links {
		if slices.ContainsFunc(group, r.reported.has) {
			maps.Copy(names, setOf(group))
		}
	}
	return &known{tree: r.tree, names: names}
}

// toldSince is what the batch and the journal tell by now; nil if they do not tell all.
func (r *run) toldSince(ctx context.Context, batch *changes.Batch) (*known, error) {
	if !r.watchedSince(ctx, batch) {
		return nil, ctx.Err()
	}
	pending, gaps, err := changes.Pending(Journal(r.Dir))
	if err != nil || slices.ContainsFunc(gaps, func(gap changes.Gap) bool { return gap.Subtree == "." }) {
		return nil, err
	}
	look := *r // what it sees is not what was copied
	memory := *r.memory
	memory.Unfinished = false
	look.memory, look.catalog = &memory, nil
	if look.tree, err = newTree(r.source, r.Profile.Filter, batch.Cut, r.cutBegan); err != nil {
		return nil, err
	}
	return look.known(ctx, &changes.Batch{Changes: slices.Concat(batch.Changes, pending), Gaps: gaps})
}

// tellMissed puts what was missed into the log, the record and what status shows. A verification that found something stays
// there when there is nothing else to show: it may have compared more.
func (r *run) tellMissed(missed map[string]aspects) error {
	for _, path := range slices.Sorted(maps.Keys(missed)) {
		r.say("missed, %s: %q", strings.Join(missed[path].words(), ", "), path)
	}
	r.record.Missed = len(missed)
	if last, err := LastVerified(r.Dir); len(missed) == 0 && (err != nil || last != nil && !last.Full && last.Missed > 0) {
		return nil
	}
	found := &Verified{At: r.record.Started, Run: r.record.ID, Missed: len(missed), Full: true}
	return found.save(r.Dir)
}
