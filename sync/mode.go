package sync

import (
	"context"
	"fmt"
	gosync "sync"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

// How a run finds its work.
const (
	modeChanges = "changes" // what the journal lists
	modeGap     = "gap"     // also whole subtrees in which changes were missed
	modeFull    = "full"    // everything is compared, and the journal's list carried as well
)

// ctimeMargin is how long before a gap a ctime may lie of a change that happened in it: it is set
// when a write(2) begins, and on a slow disk a large one takes minutes.
const ctimeMargin = 10 * time.Minute

// chooseMode decides how the run finds its work, and says why.
func (r *run) chooseMode(batch *changes.Batch) {
	r.record.Engine = "rsync"
	r.record.Backend = batch.Watch.Backend
	if r.record.Backend == "" {
		r.record.Backend = "none"
	}
	r.record.Mode = modeChanges
	for _, gap := range batch.Gaps {
		if gap.Subtree != "." {
			r.record.Mode = modeGap
			batch.Changes = append(batch.Changes, changes.Change{Path: gap.Subtree, Kind: changes.Subtree, Since: gap.Since})
		}
		r.say("%s", gap)
	}
	if why := r.fullBecause(batch); why != "" {
		r.record.Mode = modeFull
		r.say("mode full, because %s", why)
		return
	}
	r.say("mode %s: %d changes in the journal", r.record.Mode, len(batch.Changes))
}

// fullBecause gives the reason to compare everything; none is "".
func (r *run) fullBecause(batch *changes.Batch) string {
	m, every := r.memory, r.Profile.FullEvery
	missed := r.missed(batch)
	switch {
	case r.firstRun():
		return "it is the first run"
	case r.Full:
		return "it was asked for"
	case r.Accept:
		return "source and target were accepted anew"
	case m.Fingerprint != r.Profile.Fingerprint():
		return "the profile has changed"
	case missed != "":
		return missed
	case every > 0 && batch.Cut.Sub(m.LastFull) >= every:
		return fmt.Sprintf("the last full run was at %s", m.LastFull.Format(time.DateTime))
	}
	return ""
}

// missed tells why changes anywhere in the source may have been missed, and notes since when.
func (r *run) missed(batch *changes.Batch) (why string) {
	if watched := batch.Watch.Source; batch.Watch.Backend != "" && !watched.Same(r.source) {
		why = fmt.Sprintf("the watcher watches %s by another version of the profile (SIGHUP makes it read the profiles again)", watched.Path)
		r.modifiedSince = r.memory.Copied
	}
	for _, gap := range batch.Gaps {
		if gap.Subtree != "." {
			continue
		}
		why = gap.String()
		since := gap.Since
		switch copied := r.memory.Copied; {
		case copied.After(batch.Cut): // the clock was set back: ctimes tell nothing about order
			since = time.Unix(0, 0)
		case since.Before(copied):
			since = copied
		}
		if r.modifiedSince.IsZero() || since.Before(r.modifiedSince) {
			r.modifiedSince = since
		}
	}
	return why
}

// plan holds the batch against the source. A full run's plan also has what changed since the start
// of a gap, and all files with several names, since a full pass does not link them.
func (r *run) plan(ctx context.Context, batch *changes.Batch) (*plan, error) {
	p := newPlanner(r.tree)
	for _, c := range batch.Changes {
		if err := p.add(c); err != nil {
			return nil, err
		}
	}
	if r.memory.Unfinished {
		r.say("the run before did not end: what it may have left beside the files it copied is removed")
		p.listParents()
	}
	if r.record.Mode != modeFull {
		return p.finish(ctx)
	}
	everything, err := r.survey(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("reading the source: %w", err)
	}
	plan, err := p.finish(ctx)
	if err != nil {
		return nil, err
	}
	plan.entries = everything.entries
	plan.allLinks, err = everything.links.groups(ctx)
	return plan, err
}

type survey struct {
	entries int
	links   *linkFinder // of files with several names
}

// survey reads the whole source, adding to p what was modified since the start of a gap.
func (r *run) survey(ctx context.Context, p *planner) (*survey, error) {
	s := &survey{links: newLinkFinder(r.tree)}
	since := r.modifiedSince.Add(-ctimeMargin)
	var mu gosync.Mutex
	var modified []string
	err := r.tree.walk(ctx, ".", func(path string, st *unix.Stat_t) {
		if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink > 1 {
			s.links.addName(path, st)
		}
		mu.Lock()
		defer mu.Unlock()
		s.entries++
		if !r.modifiedSince.IsZero() && !time.Unix(st.Ctim.Unix()).Before(since) {
			modified = append(modified, path)
		}
	})
	for _, path := range modified {
		if err := p.add(changes.Change{Path: path, Kind: changes.Content, Since: r.modifiedSince}); err != nil {
			return nil, err
		}
	}
	if err != nil && ctx.Err() == nil { // rsync will say of these paths what is wrong with them
		r.say("reading the source: %v", err)
		err = nil
	}
	return s, err
}
