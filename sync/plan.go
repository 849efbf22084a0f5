package sync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

// A plan is a batch held against the source as it is now: what each pass of the engine is to do.
// Every list is free of duplicates; a path is in one of them, except that names of files with
// several links are also below subtrees and directories.
type plan struct {
	attributes  []string   // content is known, the rest may differ
	content     []string   // to be copied whatever size and time say
	directories []string   // every name directly in it
	subtrees    []string   // with all below, sorted
	links       [][]string // all names in the source of each file that has several
	gone        []string   // the top-most names that are not there any more
	listings    []string   // directories in which only the names are in doubt

	entries  int        // of the source, if the run has read all of it
	allLinks [][]string // of a full run: all files with several names

	// What is to be remembered of files with several names, here or elsewhere: of those that are copied,
	// and of all if the run has read the whole source for them.
	named, allNamed otherNames

	changes map[string]changes.Change // by path, for those that fail
	// carried stay in the journal, however the passes end.
	carried []changes.Change
	unread  []error // what of the source could not be looked at
}

// listed counts the entries that the passes get.
func (p *plan) listed() int {
	n := len(p.attributes) + len(p.content) + len(p.directories) + len(p.subtrees) + len(p.gone)
	for _, names := range p.links {
		n += len(names)
	}
	return n
}

// single gives the names that are copied without anything below them.
func (p *plan) single() []string {
	return slices.Concat(append(slices.Clone(p.links), p.content, p.attributes)...)
}

// planner makes a plan. Paths are sets until the end, since several changes can lead to one entry.
type planner struct {
	tree *tree
	// ripe is the age, by mtime and ctime, that a file must have for its copy to be believed; what is
	// younger stays pending as well.
	ripe time.Duration
	// sweep also lists every directory in which an earlier run may have left temporary files.
	sweep bool

	attributes, content, directories, subtrees, gone, listings set
	links                                                      *linkFinder
	changes                                                    map[string]changes.Change
	carried                                                    []changes.Change
}

type set map[string]struct{}

func (s set) add(path string) { s[path] = struct{}{} }

func (s set) has(path string) bool { _, ok := s[path]; return ok }

func (s set) sorted() []string { return slices.Sorted(maps.Keys(s)) }

func newPlanner(t *tree) *planner {
	return &planner{
		tree: t, attributes: set{}, content: set{}, directories: set{}, subtrees: set{}, gone: set{}, listings: set{},
		links: newLinkFinder(t), changes: map[string]changes.Change{},
	}
}

// smallFile is the size up to which copying a file costs less than another rsync that would find
// that only its attributes differ.
const smallFile = 128 << 10

func (p *planner) add(c changes.Change) {
	if c.Handle != "" {
		p.addHandle(c)
		return
	}
	if _, known := p.changes[c.Path]; !known {
		p.changes[c.Path] = c
	}
	if c.Path == "." {
		p.addRoot(c.Kind)
		return
	}
	switch a := p.tree.ancestry(parent(c.Path)); a.state {
	case left:
		p.attributes.add(parent(a.at)) // the time of a directory changes also with what is left out of it
		p.addFileLeft(c)
		return
	case missing:
		p.addGone(a.at)
		return
	case blocked:
		p.add(changes.Change{Path: a.at, Kind: changes.Content, Since: c.Since})
		return
	}
	st, err := p.tree.stat(c.Path)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		p.addGone(c.Path)
	case err != nil: // rsync will say of this path what is wrong with it
		p.content.add(c.Path)
	case p.tree.leavesOut(c.Path, st.Mode&unix.S_IFMT == unix.S_IFDIR):
		if c.Kind == changes.Attributes { // it is what it was
			p.attributes.add(parent(c.Path))
		} else {
			p.addLeft(c.Path)
		}
		p.addFileLeft(c)
	default:
		p.addPresent(c, &st)
	}
}

// addHandle looks for a file of which only the handle is known. What cannot be looked for has failed.
func (p *planner) addHandle(c changes.Change) {
	if err := p.links.addHandle(c); err != nil {
		c.Attempts++
		c.Error = err.Error()
		p.carried = append(p.carried, c)
	}
}

func (p *planner) addRoot(kind changes.Kind) {
	p.tree.ancestry(".") // notes it
	switch kind {
	case changes.Attributes, changes.Content:
		p.attributes.add(".")
	case changes.Directory:
		p.directories.add(".")
	default:
		p.tree.seen.directory(".", p.tree.identity("."))
		p.subtrees.add(".")
	}
}

func (p *planner) addPresent(c changes.Change, st *unix.Stat_t) {
	regular, dir := st.Mode&unix.S_IFMT == unix.S_IFREG, st.Mode&unix.S_IFMT == unix.S_IFDIR
	p.tidy(c.Path)
	p.tree.seen.name(c.Path, st)
	if dir && c.Kind != changes.Attributes && c.Kind != changes.Directory {
		p.tree.seen.directory(c.Path, p.tree.identity(c.Path))
	}
	if regular && p.unripe(st) {
		p.carried = append(p.carried, changes.Change{Path: c.Path, Kind: c.Kind, Since: c.Since})
	}
	switch {
	case manyNames(st):
		p.links.addName(c.Path, st, c)
	case dir && (c.Kind == changes.Subtree || c.Kind == changes.Gone): // gone, and then another one came
		p.subtrees.add(c.Path)
	case dir && c.Kind == changes.Content && c.Attempts > 0: // the target may hold what was there before that which failed
		p.subtrees.add(c.Path)
	case dir && c.Kind == changes.Directory:
		p.directories.add(c.Path)
	case c.Kind == changes.Attributes && !(regular && st.Size <= smallFile):
		p.attributes.add(c.Path)
	default:
		p.content.add(c.Path)
	}
}

// unripe reports whether a file was changed so lately that a write yet to come can leave it with the
// same times.
func (p *planner) unripe(st *unix.Stat_t) bool {
	now := time.Now()
	for _, at := range [...]unix.Timespec{st.Mtim, st.Ctim} {
		// What lies in the future was set by hand and would be young for ever.
		if age := now.Sub(time.Unix(at.Unix())); age >= 0 && age < p.ripe {
			return true
		}
	}
	return false
}

// addGone notes a name that is not there.
func (p *planner) addGone(path string) {
	p.tidy(path)
	p.tree.seen.forget(path)
	if p.tree.leavesOut(path, false) || p.tree.leavesOut(path, true) {
		p.addLeft(path)
	} else {
		p.gone.add(path)
	}
}

// addLeft notes a name that is left out or gone: the time of the directory it is in changes with it.
// Whether it was a directory before is not known; where a pattern makes a difference between the two, that
// directory is listed, and rsync looks what the target has.
func (p *planner) addLeft(path string) {
	if p.tree.leavesOut(path, false) != p.tree.leavesOut(path, true) {
		p.listings.add(parent(path))
	} else {
		p.attributes.add(parent(path))
	}
}

// addFileLeft looks for the file of a name that is left out: it may have others that are not.
func (p *planner) addFileLeft(c changes.Change) {
	if st, err := p.tree.stat(c.Path); err == nil && manyNames(&st) {
		p.links.addFile(&st, c)
	}
}

// tidy sees to it that temporary files of a path's earlier copy are removed.
func (p *planner) tidy(path string) {
	if p.sweep {
		p.listings.add(parent(path))
	}
}

// finish looks for the other names of files that have several, and gives the plan.
func (p *planner) finish(ctx context.Context) (*plan, error) {
	for _, dir := range p.subtrees.sorted() {
		if err := p.links.addBelow(ctx, dir, true); err != nil {
			return nil, err
		}
	}
	for _, dir := range p.directories.sorted() {
		if err := p.links.addBelow(ctx, dir, false); err != nil {
			return nil, err
		}
	}
	groups, err := p.links.groups(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking for all names of changed files: %w", err)
	}
	plan := &plan{changes: p.changes, carried: append(p.carried, p.links.unfound()...), unread: p.links.unread}
	plan.named = groups
	for _, names := range groups.names() {
		for _, name := range names {
			p.tidy(name)
		}
		if len(names) == 1 {
			p.content.add(names[0])
			continue
		}
		plan.links = append(plan.links, names)
	}
	p.dropIncluded()
	plan.attributes, plan.content = p.attributes.sorted(), p.content.sorted()
	plan.directories, plan.subtrees, plan.gone = p.directories.sorted(), p.subtrees.sorted(), p.gone.sorted()
	plan.listings = p.listings.sorted()
	return plan, nil
}

// dropIncluded removes what another list's pass does anyway.
func (p *planner) dropIncluded() {
	maps.DeleteFunc(p.attributes, func(path string, _ struct{}) bool { return p.content.has(path) })
	maps.DeleteFunc(p.listings, func(path string, _ struct{}) bool { return p.directories.has(path) || p.subtrees.has(path) })
	if len(p.subtrees) == 0 {
		return
	}
	for _, s := range []set{p.attributes, p.content, p.directories, p.subtrees, p.gone, p.listings} {
		maps.DeleteFunc(s, func(path string, _ struct{}) bool { return p.inSubtree(path) })
	}
}

// inDoubt reports whether a name, or a directory above it with all below, was reported.
func (p *planner) inDoubt(path string) bool {
	if _, reported := p.changes[path]; reported {
		return true
	}
	for dir := path; dir != "."; {
		dir = parent(dir)
		if c, reported := p.changes[dir]; reported && c.Kind >= changes.Directory || p.gone.has(dir) {
			return true
		}
	}
	return false
}

func (p *planner) inSubtree(path string) bool {
	if path == "." {
		return false
	}
	for dir := parent(path); ; dir = parent(dir) {
		if p.subtrees.has(dir) {
			return true
		}
		if dir == "." {
			return false
		}
	}
}
