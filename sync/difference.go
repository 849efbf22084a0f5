package sync

import (
	"context"
	"maps"
	"slices"
	"time"

	"rsince/changes"
	"rsince/sync/rsync"
)

// A Difference is a name that is not on the target what it is in the source.
type Difference struct {
	Path string // a directory that only one side has stands for all below it
	What []string

	kind changes.Kind // the doubt by which the next run mends it
}

// aspects are the ways in which a name differs.
type aspects uint16

const (
	onlySource aspects = 1 << iota
	onlyTarget
	otherType
	otherLinks
	otherContent
	otherSize
	otherTime
	otherMode
	otherOwner
	otherGroup
	otherACL
	otherXattrs
)

// oneSided are names of which there is nothing to compare.
const oneSided = onlySource | onlyTarget | otherType

var aspectWords = [...]string{
	"missing on the target", "only on the target", "type", "links", "content", "size", "time", "mode", "owner", "group", "ACL", "xattrs",
}

func (a aspects) words() []string {
	var words []string
	for i, word := range aspectWords {
		if a&(1<<i) != 0 {
			words = append(words, word)
		}
	}
	return words
}

// itemLetters is what rsync's notation has at the place of each aspect when it differs (rsync(1),
// --itemize-changes). A T at the place of the t says that times are not compared.
const itemLetters = "YXcstpoguax"

var itemAspects = [len(itemLetters)]aspects{
	2: otherContent, 3: otherSize, 4: otherTime, 5: otherMode, 6: otherOwner, 7: otherGroup, 9: otherACL, 10: otherXattrs,
}

func aspectsOf(item rsync.Item) (a aspects) {
	switch item.Action {
	case rsync.Create:
		return onlySource
	case rsync.Delete:
		return onlyTarget
	}
	for i, aspect := range itemAspects {
		if item.Changes[i] == itemLetters[i] {
			a |= aspect
		}
	}
	if a&otherSize != 0 { // which says it already
		a &^= otherContent
	}
	return a
}

// A comparison is what differs between source and target at some moment while it lasts.
type comparison struct {
	differing      map[string]aspects
	source, target linkage
	unlinked       set // names of which rsync says that they are not linked on another machine
}

// remoteSilence is how long the other machine may take to read what has to be compared by content: it says
// nothing while it finds no difference.
const remoteSilence = 24 * time.Hour

// compare has rsync tell what it would do.
func (r *run) compare(ctx context.Context, checksum bool) (*comparison, error) {
	c := &comparison{differing: map[string]aspects{}, unlinked: set{}}
	full := r.telling(func(item rsync.Item) {
		if a := aspectsOf(item); a != 0 {
			c.differing[item.Path] |= a
		}
	})
	types := r.telling(func(item rsync.Item) {
		if item.Action == rsync.Create && c.differing[item.Path] != 0 {
			c.differing[item.Path] = otherType
		}
	}, "--existing")
	if checksum {
		full = r.byContent(full)
	}
	err := r.inTurn([]pass{
		func() (rsync.Result, error) { return full.Full(ctx, true) },
		func() (rsync.Result, error) { return full.Alike(ctx, r.apart()) },
		func() (rsync.Result, error) { return types.Paths(ctx, c.created(), false) },
	})
	for _, dir := range r.result.Kept { // for excluded names in it
		delete(c.differing, dir)
	}
	if err == nil {
		err = r.compareLinks(ctx, c)
	}
	return c, err
}

// byContent is e so that it compares contents where sizes agree.
func (r *run) byContent(e *rsync.Engine) *rsync.Engine {
	other := *e
	other.Options = append(slices.Clone(e.Options), "--checksum")
	if !r.Profile.Target.Local() && e.Stall > 0 {
		other.Stall = max(e.Stall, remoteSilence)
	}
	return &other
}

// telling is the run's engine without effect, with further options; items is called with what it would do.
func (r *run) telling(items func(rsync.Item), options ...string) *rsync.Engine {
	e := *r.engine
	e.Items, e.Progress = items, nil
	e.Options = append(slices.Clone(e.Options), options...)
	return &e
}

// created gives the top-most names that rsync would create. Some of them the target has as another type.
func (c *comparison) created() []string {
	var top []string
	for path, a := range c.differing {
		if a&onlySource != 0 && c.differing[parent(path)]&onlySource == 0 {
			top = append(top, path)
		}
	}
	return top
}

// divide divides what differs into what is known and what was missed.
func (r *run) divide(c *comparison, k knowledge, found *Findings) {
	*found = Findings{}
	failed := set{}
	for _, f := range r.result.Failed {
		failed.add(f.Path)
		if !k.covers(f.Path, onlySource) {
			found.Failed = append(found.Failed, f)
		}
	}
	missed := map[string]aspects{}
	for path, a := range c.differing {
		switch {
		case a&oneSided != 0 && within(failed, path): // rsync could not look at what is there
		case !k.covers(path, a):
			missed[path] = a
		case a != otherTime || !r.isDirectory(path):
			found.Pending++
		}
	}
	unlike := r.unlike(c, func(path string) bool { return k.covers(path, otherLinks) || within(failed, path) })
	for _, path := range unlike {
		missed[path] |= otherLinks
	}
	dropImplied(missed)
	for _, path := range slices.Sorted(maps.Keys(missed)) {
		a := missed[path]
		found.Differences = append(found.Differences, Difference{Path: path, What: a.words(), kind: r.mending(path, a)})
	}
}

// within reports whether a path is one of the names or below one; that of the root says nothing of what is
// below it.
func within(names set, path string) bool {
	for ; path != "."; path = parent(path) {
		if names.has(path) {
			return true
		}
	}
	return false
}

// dropImplied leaves out what follows from another difference: names below one that only one side has as
// a directory, and the times of directories in which something differs.
func dropImplied(differing map[string]aspects) {
	holds := set{}
	for path := range differing {
		if path != "." {
			holds.add(parent(path))
		}
	}
	maps.DeleteFunc(differing, func(path string, a aspects) bool {
		return a == otherTime && holds.has(path) || belowOneSided(differing, path)
	})
}

func belowOneSided(differing map[string]aspects, path string) bool {
	for path != "." {
		path = parent(path)
		if differing[path]&oneSided != 0 {
			return true
		}
	}
	return false
}

// mending is the doubt in the journal by which the next run mends a difference.
func (r *run) mending(path string, a aspects) changes.Kind {
	switch dir := r.isDirectory(path); {
	case a == onlyTarget:
		return changes.Gone
	case a&oneSided != 0 && dir:
		return changes.Subtree
	case dir || a&^(otherMode|otherOwner|otherGroup|otherACL|otherXattrs) == 0:
		return changes.Attributes
	}
	return changes.Content
}
