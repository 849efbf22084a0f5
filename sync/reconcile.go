package sync

import (
	"context"
	"slices"
	gosync "sync"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/changes/scan"
)

// ordered are the file systems, by statfs(2)'s magic numbers, that are known to renew the ctime of what
// is renamed (but xfs not that of what is exchanged, btrfs not that of a subvolume), to keep inode numbers, and to
// have file handles.
var ordered = []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC}

func (r *run) inOrder() bool {
	return slices.ContainsFunc(ordered, func(magic int64) bool { return onType(r.source.Path, magic) })
}

// obstacle tells why what was missed would not show in the source; nothing is "".
func (r *run) obstacle(gaps []changes.Gap) string {
	for _, gap := range gaps {
		if gap.Subtree == "." && gap.Since.Unix() <= 0 {
			return "nothing is known from before"
		}
	}
	switch {
	case len(r.tree.mounts) > 0:
		return "the source holds several file systems"
	case !r.inOrder():
		return "its file system is none of ext4, xfs, btrfs and tmpfs, on which the source itself tells what was changed"
	}
	return ""
}

// findings are the names in a source that were changed since they were copied, as far as it shows.
type findings struct {
	catalog *scan.Catalog // of what was copied; nil: it is not known
	alone   bool          // the catalog needs no ctimes to tell what was moved
	// exchanged: without a catalog that is alone, what two names led to may have been exchanged where the directory's
	// ctime alone tells (renameat2(2) with RENAME_EXCHANGE on xfs, seen on Linux 6.18).
	exchanged bool
	// subvolumes: as exchanged, of those of btrfs: a snapshot has the ctime of its origin, and that of a subvolume that
	// was renamed goes with the inode's copy in memory (seen on Linux 6.18).
	subvolumes bool
	// since is the time from which on a ctime means a change, whatever the catalog says: a write(2)
	// that goes on for minutes sets it when it begins. The zero time: no ctime means anything.
	since time.Time
	// changed is since when what is found counts as changed: where no ctime means anything, since the last run.
	changed time.Time

	mu       gosync.Mutex
	entries  int
	names    []string // to be copied whatever size and time say
	listings []string // directories whose names may have changed
	subtrees []string // directories that may not be those that were there
	renewed  set      // directories with a ctime since then
	relisted set      // those in listings
	seen     *seen
}

func (r *run) newFindings(since time.Time) *findings {
	changed := since
	if since.IsZero() {
		changed = r.memory.Copied
	}
	return &findings{
		catalog: r.catalog, alone: r.catalogAlone(),
		exchanged:  !r.catalogAlone() && onType(r.source.Path, unix.XFS_SUPER_MAGIC),
		subvolumes: onType(r.source.Path, unix.BTRFS_SUPER_MAGIC),
		since:      since, changed: changed, renewed: set{}, relisted: set{}, seen: r.tree.seen,
	}
}

// catalogAlone reports whether the catalog tells everything that was changed since it was written.
func (r *run) catalogAlone() bool { return r.catalog != nil && !r.incompleteCatalog }

// doubtedSince is the time from which on a ctime means a change.
func (r *run) doubtedSince() time.Time {
	switch {
	case r.modifiedSince.IsZero():
		return time.Time{}
	case r.clockSetBack && !r.catalogAlone():
		return time.Unix(0, 0)
	}
	return r.modifiedSince.Add(-ctimeMargin)
}

// visit looks at a name. The directory it is in was visited before.
func (f *findings) visit(path string, st *unix.Stat_t, id scan.Identity) {
	renewed := !f.since.IsZero() && !time.Unix(st.Ctim.Unix()).Before(f.since)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		f.visitDirectory(path, st, id, renewed)
		return
	}
	changed := renewed || f.catalog != nil && !f.catalog.Has(path, scan.VersionOf(st))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries++
	if changed || f.exchanged && f.renewed.has(parent(path)) {
		f.names = append(f.names, path)
	}
}

func (f *findings) visitDirectory(path string, st *unix.Stat_t, id scan.Identity, renewed bool) {
	known := f.catalog != nil && f.catalog.HasDirectory(path, id)
	listed := f.catalog == nil || f.catalog.HasListing(path, scan.VersionOf(st))
	f.mu.Lock()
	defer f.mu.Unlock()
	if path != "." {
		f.entries++
	}
	if renewed {
		f.renewed.add(path)
	}
	switch {
	case f.catalog != nil && !known, !f.alone && f.mayBeMoved(path, st):
		f.subtrees = append(f.subtrees, path)
	case renewed || !listed:
		f.listings = append(f.listings, path)
		f.relisted.add(path)
		f.seen.relist(path)
	}
	if known && f.relisted.has(parent(path)) {
		f.seen.stillDirectory(path, id)
	}
}

// mayBeMoved reports whether the ctimes allow that a directory came to its place by a rename: that renews the one
// of it and of the one it is in, and nothing below it. Entries made in both look the same, and may have come after
// a rename.
func (f *findings) mayBeMoved(path string, st *unix.Stat_t) bool {
	return path != "." && f.renewed.has(parent(path)) && (f.renewed.has(path) || f.exchanged || f.subvolumes && st.Ino == subvolumeInode)
}

// subvolumeInode is the number of each subvolume's own directory (BTRFS_FIRST_FREE_OBJECTID).
const subvolumeInode = 256

// unread puts in doubt what could not be looked at: rsync will say what is wrong with it.
func (f *findings) unread(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subtrees = append(f.subtrees, path)
}

// addTo puts in doubt what was found, except which names are gone.
func (f *findings) addTo(p *planner) {
	for _, path := range f.names {
		p.add(changes.Change{Path: path, Kind: changes.Content, Since: f.changed})
	}
	for _, path := range f.subtrees {
		p.add(changes.Change{Path: path, Kind: changes.Subtree, Since: f.changed})
	}
}

// reconcile holds the source against the catalog, puts in doubt what differs, and counts the entries. For a watcher that
// hears only names it gathers the files with several.
func (r *run) reconcile(ctx context.Context, p *planner, links *linkFinder, since time.Time) (entries int, err error) {
	f := r.newFindings(since)
	began := time.Now()
	err = r.tree.walk(ctx, ".", func(path string, st *unix.Stat_t, id scan.Identity) {
		f.visit(path, st, id)
		if r.namesOnly() && manyNames(st) {
			links.addName(path, st)
		}
	}, f.unread)
	links.surveyed = true
	r.say("read the %d entries of the source in %.1f s: %d names, %d directories' listings and %d whole subtrees may have changed",
		f.entries, time.Since(began).Seconds(), len(f.names), len(f.listings), len(f.subtrees))
	f.addTo(p)
	for _, dir := range f.listings {
		p.add(changes.Change{Path: dir, Kind: changes.Attributes, Since: f.changed})
		p.listings.add(dir)
	}
	return f.entries, p.links.note(ctx, err)
}
