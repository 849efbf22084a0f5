package sync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	gosync "sync"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/changes/scan"
)

// How a run finds its work.
const (
	modeChanges = "changes" // what the journal lists
	modeGap     = "gap"     // also what the source itself shows to be changed, or subtrees in which changes were missed
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
	}
	for _, gap := range changes.Together(batch.Gaps) {
		r.say("%s", gap)
	}
	if batch.Watch.Backend == "" && r.Profile.Watch.Backend != "none" && !r.firstRun() {
		r.warn("nobody watches it, so all of the source is looked at; `rsince watch` or its service is to run all the time")
	}
	missed := r.missed(batch)
	if missed != "" {
		r.record.Mode, r.record.Reason, r.reconciling = modeGap, missed, true
		obstacle := r.obstacle(batch.Gaps)
		if obstacle == "" {
			r.catalog, obstacle = catalogOf(r.Dir)
		}
		if obstacle != "" {
			r.reconciling = false
			missed += "; " + obstacle
		}
	}
	if why := r.fullBecause(batch, missed); why != "" {
		r.chooseDoubts()
		if r.shouldKnowAll(batch, missed) {
			r.differing = map[string]aspects{}
		}
		r.beFull(why)
		return
	}
	r.say("mode %s: %d changes in the journal", r.record.Mode, len(batch.Changes))
}

// chooseDoubts chooses the catalog that shows a full run what is to be copied although size and time agree. What
// a run has put aside that did not come to its end, or what cannot tell all that was missed, tells some of it.
func (r *run) chooseDoubts() {
	switch {
	case r.Accept, r.firstRun(): // the catalog is of another source, or of another target
		r.catalog = nil
	case r.catalog == nil:
		r.incompleteCatalog = true
		if r.catalog, _ = catalogOf(r.Dir); r.catalog == nil {
			r.catalog, _ = scan.OpenCatalog(asideFile(r.Dir)) // there may be none
		}
	case r.others: // what was elsewhere for a while is where it was copied, and the target may have something else there
		r.incompleteCatalog = true
	}
}

// namesDamaged reports whether the names of files with several are no longer known.
func (r *run) namesDamaged() bool {
	_, err := recallNames(r.Dir)
	return errors.Is(err, errDamaged)
}

func (r *run) beFull(why string) {
	r.record.Mode, r.record.Reason, r.reconciling = modeFull, why, false
	r.say("mode full, because %s", why)
}

// fullBecause gives the reason to compare everything; none is "". What was missed is one if the source
// itself does not tell.
func (r *run) fullBecause(batch *changes.Batch, missed string) string {
	m, every := r.memory, r.Profile.FullEvery
	switch {
	case r.retargeted:
		return "the profile has another target"
	case m.Unwritten:
		return "what a full run copied may not have reached the target's disk"
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
	case missed != "" && !r.reconciling:
		return missed
	case r.namesOnly() && r.namesDamaged():
		return "the memory of files with several names is damaged"
	case r.isLong(len(batch.Changes)):
		return r.longReason(len(batch.Changes))
	case every > 0 && batch.Cut.Sub(m.LastFull) >= every:
		return fmt.Sprintf("the last full run was at %s", m.LastFull.Format(time.DateTime))
	}
	return ""
}

func (r *run) longReason(listed int) string {
	return fmt.Sprintf("comparing all %d entries costs less than copying from a list of %d", r.memory.Entries, listed)
}

// missed tells why changes anywhere in the source may have been missed, and notes since when. Of several
// reasons the one that reaches back furthest decides how much has to be compared.
func (r *run) missed(batch *changes.Batch) (why string) {
	if r.memory.Owed != "" || r.Accept || r.retargeted { // the target may have been away, or is half of what it is to be
		r.doubtSince(r.memory.Copied, batch)
	}
	if r.mishears(batch) {
		why = fmt.Sprintf("the watcher watches %s by another version of the profile (SIGHUP makes it read the profiles again)", batch.Watch.Source.Path)
		r.doubtSince(r.memory.Copied, batch)
	}
	var first time.Time
	for _, gap := range batch.Gaps {
		if gap.Subtree != "." {
			continue
		}
		if why == "" || !gap.Since.After(first) {
			why, first = gap.String(), gap.Since
		}
		since := gap.Since
		if copied := r.memory.Copied; since.Before(copied) || r.memory.Misheard {
			since = copied
		}
		r.doubtSince(since, batch)
	}
	return why
}

// doubtSince has everything with a ctime since then count as modified, unless it does already.
func (r *run) doubtSince(since time.Time, batch *changes.Batch) {
	r.clockSetBack = r.clockSetBack || since.After(batch.Cut)
	if r.modifiedSince.IsZero() || !since.IsZero() && since.Before(r.modifiedSince) {
		r.modifiedSince = since
	}
}

// mishears reports whether the watcher watches another source than the profile has.
func (r *run) mishears(batch *changes.Batch) bool {
	return batch.Watch.Backend != "" && !batch.Watch.Source.Same(r.source)
}

// plan holds the batch against the source. A full run's plan also has what changed since the start
// of a gap, and all files with several names, since a full pass does not link them.
func (r *run) plan(ctx context.Context, batch *changes.Batch) (*plan, error) {
	p := newPlanner(r.tree)
	p.ripe = r.ripe
	links := newLinkFinder(r.tree)
	entries, err := r.gather(ctx, p, links, batch)
	if err != nil {
		return nil, err
	}
	r.noteReported(p)
	if r.record.Mode == modeFull {
		if entries, err = r.gatherFull(ctx, p, links); err != nil {
			return nil, err
		}
	}
	if r.tree.seen.catalog = r.catalog; r.catalog == nil && len(p.directories) > 0 {
		r.tree.seen.catalog, _ = catalogOf(r.Dir)
	}
	if err := r.addUnlisted(ctx, p); err != nil {
		return nil, err
	}
	if err := r.addNamesakes(ctx, p); err != nil {
		return nil, err
	}
	plan, err := p.finish(ctx)
	if err != nil {
		return nil, err
	}
	plan.entries = entries
	if plan.allNamed, err = links.groups(ctx); err != nil {
		return nil, err
	}
	if r.record.Mode == modeFull {
		plan.allLinks = plan.allNamed.names()
	}
	for _, err := range append(plan.unread, links.unread...) { // rsync will say what is wrong with these paths
		r.say("reading the source: %v", err)
	}
	return plan, nil
}

// gather puts in doubt what the run was told of, and what it finds out without comparing everything. After a gap
// it counts the entries of the source, and may find so much that it becomes a full run.
func (r *run) gather(ctx context.Context, p *planner, links *linkFinder, batch *changes.Batch) (entries int, err error) {
	if r.memory.Unfinished && r.record.Mode != modeFull { // a full pass lists every directory
		r.say("the run before may have left temporary files: they are removed beside the files that are copied")
		p.sweep = true
	}
	if r.probed && r.record.Mode != modeFull { // a probe that was killed has touched the target
		p.attributes.add(".")
	}
	for _, c := range batch.Changes {
		p.add(c)
	}
	if err := r.addWriting(ctx, p); err != nil {
		return 0, err
	}
	if err := r.addOverlaid(ctx, p); err != nil {
		return 0, err
	}
	if r.reconciling {
		if entries, err = r.reconcile(ctx, p, links, r.doubtedSince()); err != nil {
			return 0, err
		}
		if n := len(p.changes); r.isLong(n) {
			r.beFull(r.longReason(n))
		}
	}
	if err := r.addOtherNames(p); err != nil {
		return 0, err
	}
	return entries, r.addRenewed(ctx, p, batch.Changes)
}

// gatherFull puts in doubt what a pass that compares sizes and times would leave as it is, and counts the entries of
// the source.
func (r *run) gatherFull(ctx context.Context, p *planner, links *linkFinder) (entries int, err error) {
	if entries, err = r.survey(ctx, p, links); err != nil {
		return 0, err
	}
	if err := r.addUnlike(ctx, p, links.linkage()); err != nil {
		return 0, err
	}
	r.dropDiffering(p)
	if r.memory.Unwritten {
		p.add(changes.Change{Path: ".", Kind: changes.Subtree, Since: time.Now()})
	}
	return entries, nil
}

// addUnlisted puts in doubt the directories that have come to those whose names a run before could not compare. If that
// was after a gap, nothing tells of what had such a name before that it went.
func (r *run) addUnlisted(ctx context.Context, p *planner) error {
	if r.record.Mode == modeFull || !r.inOrder() { // elsewhere no run after a gap relies on what it can list
		return nil
	}
	for _, dir := range p.directories.sorted() {
		if p.changes[dir].Attempts == 0 {
			continue
		}
		entries, err := r.tree.entriesIn(ctx, dir)
		for _, e := range entries {
			if c := r.tree.seen.catalog; e.Type == unix.DT_DIR && (c == nil || !c.HasDirectory(e.Path, r.tree.identity(e.Path))) {
				p.add(changes.Change{Path: e.Path, Kind: changes.Subtree, Since: time.Now()})
			}
		}
		if err := p.links.noteBelow(ctx, dir, err); err != nil {
			return err
		}
	}
	return nil
}

// namesOnly reports whether the watcher knows no files, only names.
func (r *run) namesOnly() bool { return r.record.Backend == "inotify" }

// addOtherNames puts in doubt every remembered name of a file of which another name is, or that is not
// what was copied.
func (r *run) addOtherNames(p *planner) error {
	if !r.namesOnly() {
		return nil
	}
	known, err := recallNames(r.Dir)
	if err != nil && !errors.Is(err, errDamaged) { // for that the run is full
		return fmt.Errorf("recalling the names of files: %w", err)
	}
	doubted, rest := known.divide(func(file named) bool {
		return slices.ContainsFunc(file.names, p.inDoubt) || r.rewritten(file)
	})
	for _, file := range doubted {
		for _, name := range file.names {
			p.add(changes.Change{Path: name, Kind: changes.Content, Since: time.Now()})
		}
	}
	r.named, r.forgotten = rest, len(doubted) > 0
	return nil
}

// rewritten reports whether a file is not what was copied of it, whoever changed it by whatever name. What
// cannot be looked at cannot be copied either.
func (r *run) rewritten(file named) bool {
	st, err := r.tree.stat(file.names[0])
	return err == nil && fileVersion(st) != file.version || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)
}

// addRenewed puts in doubt every file that was changed since the last run, if a name has come and gone
// that may have been another name of any of them, in hearing of a watcher that knows only names. After a run that broke off
// it finds again what that one found so, for the temporary files beside it.
func (r *run) addRenewed(ctx context.Context, p *planner, batch []changes.Change) error {
	if !r.namesOnly() || r.firstRun() || !r.memory.Unfinished && !r.cameAndWent(batch) {
		return nil
	}
	r.say("names may have come and gone since the last run; looking for files that were changed through one of them")
	return r.addRenewedBelow(ctx, p, ".")
}

// addRenewedBelow puts in doubt the files below a directory that may have been changed since the last run.
func (r *run) addRenewedBelow(ctx context.Context, p *planner, dir string) error {
	renewed := r.renewed()
	var mu gosync.Mutex
	var found []string
	err := r.tree.walk(ctx, dir, func(path string, st *unix.Stat_t, _ scan.Identity) {
		if st.Mode&unix.S_IFMT == unix.S_IFDIR || !renewed(path, st) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		found = append(found, path)
	}, func(string) {})
	for _, path := range found {
		p.add(changes.Change{Path: path, Kind: changes.Content, Since: time.Now()})
	}
	return p.links.noteBelow(ctx, dir, err)
}

// renewed tells which files may have been changed since the last run: those that the catalog does not have
// so. Without one those with a newer ctime, or all if the clock was set back behind that run.
func (r *run) renewed() func(path string, st *unix.Stat_t) bool {
	if catalog, _ := catalogOf(r.Dir); catalog != nil {
		return func(path string, st *unix.Stat_t) bool { return !catalog.Has(path, scan.VersionOf(st)) }
	}
	since := r.memory.Copied.Add(-renewedMargin)
	setBack := r.memory.Copied.After(time.Now())
	return func(_ string, st *unix.Stat_t) bool { return setBack || !time.Unix(st.Ctim.Unix()).Before(since) }
}

// cameAndWent reports whether a name may have led to a file, since the last run, that it does not lead to now: it
// was gone meanwhile, or has gone or become another one since the cut, or is below a directory of which no names are listed.
// Or the last run found another one already, which was not changed since: what was told then is of a file that is open
// by this name still, and may have others.
func (r *run) cameAndWent(batch []changes.Change) bool {
	return slices.ContainsFunc(batch, func(c changes.Change) bool {
		if c.Fleeting || c.Kind >= changes.Directory {
			return true
		}
		st, err := r.tree.stat(c.Path)
		return c.Kind != changes.Gone && (err != nil || c.Kind == changes.Content && !r.tree.seen.settled(&st) ||
			c.Attempts == 0 && time.Unix(st.Ctim.Unix()).Before(r.memory.Copied))
	})
}

// rememberNames keeps the names of the files that the run copied and that have several.
func (r *run) rememberNames(p *plan) error {
	known := p.allNamed
	if r.record.Mode != modeFull && !(r.reconciling && r.namesOnly()) {
		if !r.namesOnly() || len(p.named) == 0 && !r.forgotten {
			return nil
		}
		known = r.named
	}
	if err := known.with(p.named).save(r.Dir); err != nil {
		return fmt.Errorf("remembering the names of files: %w", err)
	}
	return nil
}

// survey reads the whole source, gathers the files with several names, and puts in doubt what shows to be
// changed.
func (r *run) survey(ctx context.Context, p *planner, links *linkFinder) (entries int, err error) {
	f := r.newFindings(r.doubtedSince())
	err = r.tree.walk(ctx, ".", func(path string, st *unix.Stat_t, id scan.Identity) {
		r.tree.seen.name(path, st)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			r.tree.seen.directory(path, id)
		}
		if manyNames(st) {
			links.addName(path, st)
		}
		f.visit(path, st, id)
	}, func(string) {}) // the full pass will fail there
	links.surveyed = true
	f.addTo(p) // the full pass finds what is gone
	return f.entries, links.note(ctx, err)
}

// longList is what part of the source's entries a list may hold before comparing everything costs
// less: measured on 711,690 files, a listed path takes rsync about five times as long as one that it
// finds by itself (the benchmark's 100,000 changes, and its run with none).
const longList = 5

// isLong reports whether a list is so long that it costs less to compare everything. That takes a
// target that can be looked at, see differing.
func (r *run) isLong(listed int) bool {
	return r.Profile.Target.Local() && listed > shortList && listed > r.memory.Entries/longList
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
