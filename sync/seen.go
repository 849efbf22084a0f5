package sync

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	gosync "sync"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/changes/durable"
	"rsince/changes/scan"
)

// seen gathers what a run finds in the source, for the catalog of what was copied. Only what was not
// changed since the cut counts: that is in the batch, or was found by the run, and whatever happens to
// it later will be in the next batch or differ from what the catalog says.
type seen struct {
	cut   time.Time
	began time.Time // before the cut, with a reading of the monotonic clock

	catalog *scan.Catalog // what was copied before; nil: it is not known

	mu          gosync.Mutex
	update      scan.Update
	directories map[string]scan.Identity // copied with all that is in them
	still       map[string]scan.Identity // directories in relisted ones, copied before
	relisted    set                      // directories that may hold other names than before
	renewed     set                      // directories that were changed since the cut
}

// renewedMargin is more than the clock of ctimes, which ticks every 1 to 10 ms, can be behind the one
// that cuts are timed by.
const renewedMargin = 100 * time.Millisecond

func newSeen(cut, began time.Time) *seen {
	return &seen{cut: cut, began: began, directories: map[string]scan.Identity{}, still: map[string]scan.Identity{}, relisted: set{}, renewed: set{}}
}

// settled reports whether what has this metadata was not changed since the cut.
func (s *seen) settled(st *unix.Stat_t) bool {
	ctime := time.Unix(st.Ctim.Unix())
	if st.Ctim.Nsec == 0 { // some file systems keep whole seconds
		ctime = ctime.Add(time.Second)
	}
	return ctime.Before(s.cut.Add(-renewedMargin))
}

// name notes what a name leads to; of a directory, which names it has. The directory it is in was noted
// before.
func (s *seen) name(path string, st *unix.Stat_t) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch settled := s.settled(st); {
	case settled && dir:
		s.update.CopiedListing(path, scan.VersionOf(st))
	case settled:
		s.update.Copied(path, scan.VersionOf(st))
	case dir:
		s.renewed.add(path)
	default:
		s.update.Forget(path)
	}
}

// directory notes which directory a name, noted before, leads to, when all that is in it is copied.
func (s *seen) directory(path string, id scan.Identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == 0 || s.unsettled(path) {
		s.update.Forget(path)
	} else {
		s.directories[path] = id
	}
}

// relist notes that a directory may hold other names than when it was copied last. The directories that
// it still holds are then noted by stillDirectory.
func (s *seen) relist(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relisted.add(path)
}

// stillDirectory notes a directory, in a relisted one, that was copied before or of which every change is
// in the batch.
func (s *seen) stillDirectory(path string, id scan.Identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.still[path] = id
}

// isStill reports whether stillDirectory noted a directory.
func (s *seen) isStill(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, noted := s.still[path]
	return noted
}

// listedDirectory notes a directory found in one whose entries are all in doubt. If it is not the one that was
// copied there before, it is new, and so is every directory in it in the batch.
func (s *seen) listedDirectory(path string, id scan.Identity) {
	if s.catalog != nil && s.catalog.HasDirectory(path, id) {
		s.stillDirectory(path, id)
	} else {
		s.directory(path, id)
	}
}

// unsettled reports whether a directory may have come to its place since the cut: it has changed, and the
// one it is in as well.
func (s *seen) unsettled(path string) bool {
	return path != "." && s.renewed.has(path) && s.renewed.has(parent(path))
}

// forget notes that a name is gone, or that it was not copied.
func (s *seen) forget(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.directories, path)
	delete(s.still, path)
	s.update.Forget(path)
}

func catalogFile(dir string) string { return filepath.Join(dir, "catalog") }

// asideFile is where the catalog is while a run copies what no journal lists: should that not come to its
// end, the catalog would be of what the target no longer is.
func asideFile(dir string) string { return filepath.Join(dir, "catalog.aside") }

func (r *run) putCatalogAside() error {
	err := os.Rename(catalogFile(r.Dir), asideFile(r.Dir))
	if err == nil {
		err = durable.SyncDir(r.Dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// addToAside adds to the catalog that was put aside, and puts it back.
func (r *run) addToAside() error {
	if err := r.tree.seen.update.Append(asideFile(r.Dir)); err != nil {
		return err
	}
	if err := os.Rename(asideFile(r.Dir), catalogFile(r.Dir)); err != nil {
		return err
	}
	return durable.SyncDir(r.Dir)
}

// catalogOf reads the catalog in dir. Without one, why says so.
func catalogOf(dir string) (c *scan.Catalog, why string) {
	c, err := scan.OpenCatalog(catalogFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "no full run has noted yet what it copied"
	} else if err != nil {
		return nil, err.Error()
	}
	return c, ""
}

// noteCopied keeps in the catalog what the run copied. That is durable before the batch is acknowledged:
// the catalog may know less than was copied, but not of a directory that has been moved away.
func (r *run) noteCopied(ctx context.Context, batch *changes.Batch, p *plan, pending []changes.Change) error {
	s := r.tree.seen
	for _, c := range pending {
		if c.Kind == changes.Attributes && r.isDirectory(c.Path) {
			s.update.ForgetListing(c.Path)
		} else if c.Path != "" {
			s.forget(c.Path)
		}
	}
	for _, path := range r.result.Vanished {
		s.forget(path)
	}
	if !r.watchedSince(ctx, batch) {
		r.forgetMoved(p)
	}
	s.noteDirectories()
	file := catalogFile(r.Dir)
	switch {
	case clockSetBack(s.began):
		return r.dropCatalog("the clock was set back during the run")
	case r.record.Mode == modeFull && (r.incomplete() != "" || !r.inOrder()):
		return nil
	case r.record.Mode == modeFull:
		if err := os.Remove(asideFile(r.Dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return s.update.Write(file)
	}
	var err error
	if r.record.Mode == modeChanges {
		err = s.update.Append(file)
	} else {
		err = r.addToAside()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // the next full run makes one
		return nil
	case errors.Is(err, scan.ErrDamaged):
		return r.dropCatalog(err.Error())
	}
	return err
}

func (r *run) dropCatalog(why string) error {
	r.say("%s: what was copied is not noted, and the next gap makes a run full", why)
	for _, file := range []string{catalogFile(r.Dir), asideFile(r.Dir)} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// watchedSince reports whether all that happened since the cut is in the journal, durably.
func (r *run) watchedSince(ctx context.Context, batch *changes.Batch) bool {
	if batch.Watch.Backend == "" || r.mishears(batch) {
		return false
	}
	now, err := r.settled(ctx)
	return err == nil && now.PID == batch.Watch.PID && now.Since.Equal(batch.Watch.Since)
}

// clockSetBack reports whether the clock was set back since, more than by being slowed (adjtimex(2) allows
// half a thousandth). Then a ctime does not tell what happened after the cut.
func clockSetBack(since time.Time) bool {
	elapsed := time.Since(since) // by the monotonic clock
	shown := time.Now().Round(0).Sub(since.Round(0))
	return shown < elapsed-elapsed/1000-renewedMargin
}

func (s *seen) noteDirectories() {
	for path, id := range s.still {
		s.update.StillDirectory(path, id)
	}
	for path := range s.relisted {
		s.update.Relisted(path)
	}
	for path, id := range s.directories {
		s.update.CopiedDirectory(path, id)
	}
}

// forgetMoved forgets the directories that may have been elsewhere while the run, which nobody watched,
// copied or deleted what was under their names.
func (r *run) forgetMoved(p *plan) {
	was := r.tree.seen
	now := newSeen(was.cut, was.began)
	dirs, listed := set{}, setOf(p.listings)
	maps.DeleteFunc(listed, func(dir string, _ struct{}) bool { return was.relisted.has(dir) }) // what is in them is noted
	noted := maps.Clone(was.still)
	maps.Copy(noted, was.directories)
	for dir := range noted {
		dirs.add(dir)
		dirs.add(parent(dir))
	}
	for dir := range listed {
		dirs.add(dir)
		dirs.add(parent(dir))
	}
	for _, dir := range p.directories {
		dirs.add(dir)
	}
	for _, names := range p.links {
		for _, name := range names {
			dirs.add(parent(name))
		}
	}
	for dir, a := range r.tree.dirs {
		if a.state == present {
			dirs.add(dir)
		}
	}
	delete(dirs, ".")
	for _, dir := range append([]string{"."}, dirs.sorted()...) { // a directory before those in it
		st, err := r.tree.stat(dir)
		if err == nil {
			now.name(dir, &st)
		}
		id, known := noted[dir]
		if err != nil || now.unsettled(dir) || listed.has(dir) && now.renewed.has(dir) || known && id != r.tree.identity(dir) {
			was.forget(dir)
		}
	}
}
