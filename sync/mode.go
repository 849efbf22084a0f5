package sync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
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
	if batch.Watch.Backend == "" && r.Profile.Watch.Backend != "none" && !r.firstRun() {
		r.warn("nobody watches it, so everything is compared; `rsince watch` or its service is to run all the time")
	}
	if why := r.fullBecause(batch); why != "" {
		r.record.Mode, r.record.Reason = modeFull, why
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
	case m.Owed != "":
		return m.Owed
	case m.Fingerprint != r.Profile.Fingerprint():
		return "the profile has changed"
	case missed != "":
		return missed
	case r.isLong(batch):
		return fmt.Sprintf("comparing all %d entries costs less than copying from a list of %d", m.Entries, len(batch.Changes))
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
	p.ripe = r.ripe
	full := r.record.Mode == modeFull
	if r.memory.Unfinished && !full { // a full pass lists every directory
		r.say("the run before did not end: what it may have left beside the files it copied is removed")
		p.sweep = true
	}
	if r.probed && !full { // the probe has touched the target
		p.attributes.add(".")
	}
	for _, c := range batch.Changes {
		p.add(c)
	}
	if err := r.addOtherNames(p); err != nil {
		return nil, err
	}
	if err := r.addRenewed(ctx, p); err != nil {
		return nil, err
	}
	everything := &survey{links: newLinkFinder(r.tree)}
	if full {
		if err := r.survey(ctx, everything, p); err != nil {
			return nil, err
		}
		r.dropDiffering(p)
	}
	plan, err := p.finish(ctx)
	if err != nil {
		return nil, err
	}
	plan.entries = everything.entries
	if plan.allLinks, err = everything.links.groups(ctx); err != nil {
		return nil, err
	}
	for _, err := range append(plan.unread, everything.links.unread...) { // rsync will say what is wrong with these paths
		r.say("reading the source: %v", err)
	}
	return plan, nil
}

// namesOnly reports whether the watcher knows no files, only names.
func (r *run) namesOnly() bool { return r.record.Backend == "inotify" }

// addOtherNames puts in doubt every remembered name of a file of which another name is.
func (r *run) addOtherNames(p *planner) error {
	if !r.namesOnly() || len(p.changes) == 0 {
		return nil
	}
	known, err := recallNames(r.Dir)
	if err != nil {
		return fmt.Errorf("recalling the names of files: %w", err)
	}
	for _, name := range known.touched(p.inDoubt) {
		p.add(changes.Change{Path: name, Kind: changes.Content, Since: time.Now()})
	}
	return nil
}

// renewedMargin is more than the clock of ctimes, which ticks every 1 to 10 ms, can be behind the one
// that cuts are timed by.
const renewedMargin = 100 * time.Millisecond

// addRenewed puts in doubt every file with a ctime since the last run, if a name has come and gone
// that may have been another name of any of them, in hearing of a watcher that knows only names.
func (r *run) addRenewed(ctx context.Context, p *planner) error {
	if !r.namesOnly() || r.firstRun() || !r.cameAndWent(p) {
		return nil
	}
	r.say("names have come and gone since the last run; looking for files that were changed through one of them")
	since := r.memory.Copied.Add(-renewedMargin)
	var mu gosync.Mutex
	var renewed []string
	err := r.tree.walk(ctx, ".", func(path string, st *unix.Stat_t) {
		if st.Mode&unix.S_IFMT == unix.S_IFDIR || time.Unix(st.Ctim.Unix()).Before(since) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		renewed = append(renewed, path)
	})
	for _, path := range renewed {
		p.add(changes.Change{Path: path, Kind: changes.Content, Since: time.Now()})
	}
	return p.links.note(ctx, err)
}

// cameAndWent reports whether a name that is gone was not there at the last run either, as far as the
// target can tell.
func (r *run) cameAndWent(p *planner) bool {
	for path := range p.changes {
		if _, err := r.tree.stat(path); err == nil {
			continue
		}
		if !r.Profile.Target.Local() {
			return true
		}
		if _, err := os.Lstat(filepath.Join(r.Profile.Target.Path, path)); err != nil {
			return true
		}
	}
	return false
}

// rememberNames keeps the names of the files that the run copied and that have several.
func (r *run) rememberNames(p *plan) error {
	full := r.record.Mode == modeFull
	if !full && (!r.namesOnly() || len(p.links) == 0) {
		return nil
	}
	known := otherNames(p.allLinks)
	if !full {
		var err error
		if known, err = recallNames(r.Dir); err != nil {
			return fmt.Errorf("recalling the names of files: %w", err)
		}
	}
	if err := known.with(p.links).save(r.Dir); err != nil {
		return fmt.Errorf("remembering the names of files: %w", err)
	}
	return nil
}

type survey struct {
	entries int
	links   *linkFinder // of files with several names
}

// survey reads the whole source, adding to p what was modified since the start of a gap.
func (r *run) survey(ctx context.Context, s *survey, p *planner) error {
	since := r.modifiedSince.Add(-ctimeMargin)
	var mu gosync.Mutex
	var modified []string
	renewed := set{} // directories among them
	err := r.tree.walk(ctx, ".", func(path string, st *unix.Stat_t) {
		if manyNames(st) {
			s.links.addName(path, st)
		}
		mu.Lock()
		defer mu.Unlock()
		s.entries++
		if !r.modifiedSince.IsZero() && !time.Unix(st.Ctim.Unix()).Before(since) {
			modified = append(modified, path)
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				renewed.add(path)
			}
		}
	})
	if root, err := r.tree.stat("."); err == nil && !time.Unix(root.Ctim.Unix()).Before(since) {
		renewed.add(".")
	}
	for _, path := range modified {
		p.add(changes.Change{Path: path, Kind: kindSince(path, renewed), Since: r.modifiedSince})
	}
	return s.links.note(ctx, err)
}

// kindSince is the doubt about a name with a ctime since the start of a gap, as the renewed directories
// have. A rename renews the ctime of a directory and of the one it is in, and nothing below it. Entries
// made in both look the same, and may have come after a rename.
func kindSince(path string, renewed set) changes.Kind {
	if renewed.has(path) && renewed.has(parent(path)) {
		return changes.Subtree
	}
	return changes.Content
}

// longList is what part of the source's entries a list may hold before comparing everything costs
// less: measured on 711,690 files, a listed path takes rsync about five times as long as one that it
// finds by itself (the benchmark's 100,000 changes, and its run with none).
const longList = 5

// isLong reports whether the batch is so long that it costs less to compare everything. That takes a
// target that can be looked at, see differing.
func (r *run) isLong(batch *changes.Batch) bool {
	return r.Profile.Target.Local() && len(batch.Changes) > shortList && len(batch.Changes) > r.memory.Entries/longList
}

// shortList is how many changes are never too many.
const shortList = 10_000

// quickCheckMargin is how far apart two times may be for rsync to take them for equal, on the
// coarsest file system (vfat).
const quickCheckMargin = 2 * time.Second

// dropDiffering takes from a full run's list the files whose size or time differ from the target's: the
// full pass copies them.
func (r *run) dropDiffering(p *planner) {
	if !r.Profile.Target.Local() {
		return
	}
	maps.DeleteFunc(p.content, func(path string, _ struct{}) bool {
		there, err := os.Lstat(filepath.Join(r.Profile.Target.Path, path))
		if err != nil {
			return errors.Is(err, fs.ErrNotExist)
		}
		here, err := p.tree.stat(path)
		apart := time.Unix(here.Mtim.Unix()).Sub(there.ModTime()).Abs()
		return err == nil && there.Mode().IsRegular() && here.Mode&unix.S_IFMT == unix.S_IFREG &&
			(here.Size != there.Size() || apart > quickCheckMargin)
	})
}
