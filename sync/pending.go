package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/sync/rsync"
)

// stillPending gives the changes that stay in the journal: what failed, with what is known of earlier
// attempts, what is too young to be believed, and names under which the target may still hold another directory. Of one
// that is there now the next batch only tells that it is new; what the target holds in it is the old one's. And it gives
// those that somebody else has removed from the target.
func (r *run) stillPending(ctx context.Context, p *plan) ([]changes.Change, error) {
	pending := p.carried
	for _, f := range r.result.Failed {
		pending = append(pending, r.failed(p, f))
	}
	remade, err := r.remade(ctx, p)
	for _, path := range slices.Concat(r.comeBack(p), remade, r.removedThere(p)) {
		pending = append(pending, changes.Change{Path: path, Kind: changes.Subtree, Since: time.Now()})
	}
	return pending, err
}

// comeBack gives the names under which the target may hold what has gone since: those that were removed before the cut,
// were no directories when they were planned or copied, and are now, and those that had vanished when rsync came to them,
// where it may have left what was there before.
func (r *run) comeBack(p *plan) []string {
	vanished := setOf(r.result.Vanished)
	suspects := setOf(p.gone, r.result.Vanished)
	for path, c := range p.changes {
		if (c.Kind == changes.Subtree || c.Kind == changes.Gone) && !p.inSubtrees(path) {
			suspects.add(path)
		}
	}
	return slices.DeleteFunc(suspects.sorted(), func(path string) bool {
		return path == "." || r.tree.leavesOut(path, true) || r.tree.ancestry(parent(path)).state == left || !vanished.has(path) && !r.isDirectory(path)
	})
}

// remade gives the directories that came, since the source was read, to where names may have gone in a gap. Of what had
// such a name before, nothing tells that it went; and the pass that deletes what is gone finds the name in use.
func (r *run) remade(ctx context.Context, p *plan) ([]string, error) {
	var found []string
	for _, dir := range r.tree.seen.relisted.sorted() {
		if r.record.Mode == modeFull || !r.reconciling && p.changes[dir].Attempts == 0 || p.inSubtrees(dir) {
			continue
		}
		entries, err := r.tree.entriesIn(ctx, dir)
		for _, e := range entries {
			if e.Type == unix.DT_DIR && !r.tree.seen.isStill(e.Path) && !p.inSubtrees(e.Path) {
				found = append(found, e.Path)
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR): // the next batch tells of it
		case err != nil:
			found = append(found, dir)
		}
	}
	return found, nil
}

// removedThere gives the directories that were taken for copied, and that the target did not have: a pass that makes
// the names in another one what they are in the source has made them, and has copied nothing in them. A full pass has.
func (r *run) removedThere(p *plan) []string {
	if r.record.Mode == modeFull {
		return nil
	}
	copied := setOf(p.content, p.directories, p.listings)
	return slices.DeleteFunc(r.madeEmpty.sorted(), func(dir string) bool { return copied.has(dir) || p.inSubtrees(dir) })
}

// inSubtrees reports whether a pass copied path with all that is below.
func (p *plan) inSubtrees(path string) bool {
	for dir := path; ; dir = parent(dir) {
		if _, found := slices.BinarySearch(p.subtrees, dir); found {
			return true
		}
		if dir == "." {
			return false
		}
	}
}

// lists reports whether a pass was to make the names in a directory what they are in the source.
func (p *plan) lists(dir string) bool {
	_, inDoubt := slices.BinarySearch(p.directories, dir)
	_, listed := slices.BinarySearch(p.listings, dir)
	return inDoubt || listed
}

func (r *run) failed(p *plan, f rsync.Failure) changes.Change {
	c, known := p.changes[f.Path]
	if !known {
		c = changes.Change{Path: f.Path, Kind: changes.Content, Since: time.Now()}
	}
	if r.isDirectory(f.Path) {
		switch {
		case f.OfAttributes(): // what else was to be done there is done, or has failed by itself
			c.Kind = changes.Attributes
		case r.entered(p, f.Path):
			c.Kind = changes.Subtree
		case p.lists(f.Path):
			c.Kind = max(c.Kind, changes.Directory)
		}
	}
	c.Attempts++
	c.Error = f.Reason
	return c
}

// entered reports whether a pass was to copy what is in the directory: its failure then stands for
// that of everything below.
func (r *run) entered(p *plan, dir string) bool {
	return dir != "." && (r.record.Mode == modeFull || p.inSubtrees(dir))
}

// incomplete tells why this full run does not stand for one that compared everything.
func (r *run) incomplete() string {
	for _, f := range r.result.Failed {
		if f.Path == "." && !f.OfAttributes() {
			return fmt.Sprintf("the full run before did not reach everything: %s", f.Reason)
		}
	}
	return ""
}

// isDirectory reports whether there is a directory, or something that cannot be looked at.
func (r *run) isDirectory(path string) bool {
	st, err := r.tree.stat(path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return false
	}
	return err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR
}
