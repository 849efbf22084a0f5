package sync

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// known tells which differences the next run mends, because the journal or the source itself shows them.
type known struct {
	tree *tree

	names      set // whatever is different about them
	attributes set // all but content under equal size and time
	entries    set // directories with what is directly in them
	listings   set // the same, but for content under equal size and time
	trees      set // with everything below
	parents    set // the directories of all these, whose times follow

	since time.Time // from which on the next run looks by itself for what was written; zero: it does not
}

func newKnown(t *tree, p *plan, since time.Time) *known {
	k := &known{
		tree: t, since: since,
		names: setOf(p.content, slices.Concat(p.links...)), attributes: setOf(p.attributes),
		entries: setOf(p.directories), listings: setOf(p.listings), trees: setOf(p.subtrees, p.gone),
		parents: set{},
	}
	for _, some := range []set{k.names, k.attributes, k.entries, k.trees} {
		for path := range some {
			k.parents.add(parent(path))
		}
	}
	return k
}

func setOf(lists ...[]string) set {
	s := set{}
	for _, path := range slices.Concat(lists...) {
		s.add(path)
	}
	return s
}

// knowledge is what was known at several moments.
type knowledge []*known

func (k knowledge) covers(path string, a aspects) bool {
	return slices.ContainsFunc(k, func(k *known) bool { return k.covers(path, a) })
}

// covers reports whether the next run mends what differs about a name.
func (k *known) covers(path string, a aspects) bool {
	hidden := a == otherContent // with size and time as they should be
	switch {
	case k.names.has(path), k.trees.has(path), k.entries.has(path):
		return true
	case !hidden && (k.attributes.has(path) || k.listings.has(path)):
		return true
	case a == otherTime && k.parents.has(path):
		return true
	}
	return k.above(path, hidden) || !k.since.IsZero() && k.writtenSince(path)
}

// above reports whether a directory on the way to a name is in doubt with it.
func (k *known) above(path string, hidden bool) bool {
	for name := path; name != "."; name = parent(name) {
		dir := parent(name)
		listed := k.entries.has(dir) || k.listings.has(dir) && !hidden
		switch {
		case k.trees.has(dir):
			return true
		case listed && (name == path || !k.isDirectory(name)): // below a name that goes or is replaced
			return true
		case k.names.has(dir) && !k.isDirectory(dir):
			return true
		}
	}
	return false
}

func (k *known) isDirectory(path string) bool {
	st, err := k.tree.stat(path)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// writtenSince reports whether the ctimes show that a name was written, or came to be where it is or was
// removed, since the time from which the next run looks for such by itself. A rename renews the ctimes of a
// directory and of the one that it is in.
func (k *known) writtenSince(path string) bool {
	for ; path != "."; path = parent(path) {
		if _, err := k.tree.stat(path); err == nil {
			break
		}
	}
	if k.renewed(path) {
		return true
	}
	for dir := parent(path); dir != "."; dir = parent(dir) {
		if k.renewed(dir) && k.renewed(parent(dir)) {
			return true
		}
	}
	return false
}

// tick is more than the clock of ctimes, which goes on every 1 to 10 ms, can be behind the one that cuts are
// timed by.
const tick = 20 * time.Millisecond

func (k *known) renewed(path string) bool {
	st, err := k.tree.stat(path)
	return err == nil && !time.Unix(st.Ctim.Unix()).Before(k.since.Add(-tick))
}
