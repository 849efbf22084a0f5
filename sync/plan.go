package sync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

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
	subtrees    []string   // with all below
	links       [][]string // all names in the source of each file that has several
	gone        []string   // the top-most names that are not there any more
	leftovers   []string   // directories in which a run that died may have left temporary files

	// Of a full run: how many entries the source has, and all files in it with several names.
	entries  int
	allLinks [][]string

	changes map[string]changes.Change // by path, for those that fail
}

// listed counts the entries that the passes get.
func (p *plan) listed() int {
	n := len(p.attributes) + len(p.content) + len(p.directories) + len(p.subtrees) + len(p.gone)
	for _, names := range p.links {
		n += len(names)
	}
	return n
}

// planner makes a plan. Paths are sets until the end, since several changes can lead to one entry.
type planner struct {
	tree *tree

	attributes, content, directories, subtrees, gone, leftovers set
	links                                                       *linkFinder
	changes                                                     map[string]changes.Change
}

type set map[string]struct{}

func (s set) add(path string) { s[path] = struct{}{} }

func (s set) has(path string) bool { _, ok := s[path]; return ok }

func (s set) sorted() []string { return slices.Sorted(maps.Keys(s)) }

func newPlanner(t *tree) *planner {
	return &planner{
		tree: t, attributes: set{}, content: set{}, directories: set{}, subtrees: set{}, gone: set{}, leftovers: set{},
		links: newLinkFinder(t), changes: map[string]changes.Change{},
	}
}

// smallFile is the size up to which copying a file costs less than another rsync that would find
// that only its attributes differ.
const smallFile = 128 << 10

func (p *planner) add(c changes.Change) error {
	if c.Handle != "" {
		return p.links.addHandle(c.Handle)
	}
	if _, known := p.changes[c.Path]; !known {
		p.changes[c.Path] = c
	}
	if c.Path == "." {
		return p.addRoot(c.Kind)
	}
	switch a := p.tree.ancestry(parent(c.Path)); a.state {
	case left:
		return nil
	case missing:
		p.addGone(a.at)
		return nil
	case blocked:
		p.content.add(a.at)
		return nil
	}
	st, err := p.tree.stat(c.Path)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		p.addGone(c.Path)
	case err != nil: // rsync will say of this path what is wrong with it
		p.content.add(c.Path)
	case p.tree.leavesOut(c.Path, st.Mode&unix.S_IFMT == unix.S_IFDIR):
	default:
		p.addPresent(c, &st)
	}
	return nil
}

func (p *planner) addRoot(kind changes.Kind) error {
	switch kind {
	case changes.Attributes, changes.Content:
		p.attributes.add(".")
	case changes.Directory:
		p.directories.add(".")
	default:
		p.subtrees.add(".")
	}
	return nil
}

func (p *planner) addPresent(c changes.Change, st *unix.Stat_t) {
	regular, dir := st.Mode&unix.S_IFMT == unix.S_IFREG, st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case regular && st.Nlink > 1:
		p.links.addName(c.Path, st)
	case dir && c.Kind == changes.Subtree:
		p.subtrees.add(c.Path)
	case dir && c.Kind == changes.Directory:
		p.directories.add(c.Path)
	case c.Kind == changes.Attributes && !(regular && st.Size <= smallFile):
		p.attributes.add(c.Path)
	default:
		p.content.add(c.Path)
	}
}

// addGone notes a name that is not there. Whether it was a directory is not known; where a pattern
// makes a difference between the two, the directory it was in is listed, and rsync looks what the
// target has.
func (p *planner) addGone(path string) {
	asFile, asDir := p.tree.leavesOut(path, false), p.tree.leavesOut(path, true)
	switch {
	case asFile != asDir:
		p.directories.add(parent(path))
	case !asFile:
		p.gone.add(path)
	}
}

// listParents adds the directories of all that is to be copied, whose listing removes temporary
// files from them.
func (p *planner) listParents() {
	for path := range p.content {
		p.leftovers.add(parent(path))
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
	plan := &plan{changes: p.changes}
	for _, names := range groups {
		if len(names) == 1 {
			p.content.add(names[0])
			continue
		}
		plan.links = append(plan.links, names)
	}
	p.dropBelowSubtrees()
	plan.attributes, plan.content = p.attributes.sorted(), p.content.sorted()
	plan.directories, plan.subtrees, plan.gone = p.directories.sorted(), p.subtrees.sorted(), p.gone.sorted()
	plan.leftovers = p.leftovers.sorted()
	return plan, nil
}

// dropBelowSubtrees removes what a subtree's pass does anyway.
func (p *planner) dropBelowSubtrees() {
	if len(p.subtrees) == 0 {
		return
	}
	for _, s := range []set{p.attributes, p.content, p.directories, p.subtrees, p.gone, p.leftovers} {
		maps.DeleteFunc(s, func(path string, _ struct{}) bool { return p.inSubtree(path) })
	}
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
