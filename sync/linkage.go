package sync

import (
	"context"
	"maps"
	"slices"
	gosync "sync"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/changes/scan"
	"rsince/sync/rsync"
)

// linkage has the names below a directory of every file with several.
type linkage map[fileID][]string

// readLinkage reads it, and calls visit, from several goroutines, for every entry.
func readLinkage(ctx context.Context, t scan.Tree, visit func(*scan.Entry)) (linkage, error) {
	var mu gosync.Mutex
	l := linkage{}
	err := t.Walk(ctx, func(e scan.Entry) {
		visit(&e)
		if !manyNames(&e.Stat) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		id := fileID{e.Stat.Dev, e.Stat.Ino}
		l[id] = append(l[id], e.Path)
	})
	return l, err
}

// groups gives the names of each file that has several of them here.
func (l linkage) groups() [][]string {
	var groups [][]string
	for _, names := range l {
		if len(names) > 1 {
			groups = append(groups, slices.Sorted(slices.Values(names)))
		}
	}
	return groups
}

// apart gives the names, but for the first, that are one file in l and not in other. Of those that mounts keep apart, the
// ones in each are looked at by themselves.
func (l linkage) apart(other linkage, skip func(path string) bool, mount func(path string) string) []string {
	files := map[string]fileID{}
	for id, names := range other {
		for _, name := range names {
			files[name] = id
		}
	}
	var apart []string
	for _, names := range l.groups() {
		first := map[string]string{}
		for _, name := range slices.DeleteFunc(names, skip) {
			if before, others := first[mount(name)]; !others {
				first[mount(name)] = name
			} else if file, linked := files[name]; !linked || file != files[before] {
				apart = append(apart, name)
			}
		}
	}
	return apart
}

// compareLinks reads which names are links of each other. The target is looked at where it is local, and
// then also for links that the source does not have; elsewhere rsync is asked.
func (r *run) compareLinks(ctx context.Context, c *comparison) (err error) {
	if !r.engine.Capabilities.Hardlinks || r.optedOut("--no-hard-links", "--no-H") {
		return nil
	}
	if c.source, err = readLinkage(ctx, r.tree.scan("."), func(*scan.Entry) {}); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil { // what rsync could not read either
		r.say("reading the source: %v", err)
	}
	if !r.Profile.Target.Local() {
		asked := r.telling(func(item rsync.Item) {
			if item.Action == rsync.Update && item.Changes[0] == 'h' {
				c.unlinked.add(item.Path)
			}
		})
		return r.inTurn([]pass{func() (rsync.Result, error) { return asked.Links(ctx, c.source.groups(), false) }})
	}
	var others []string
	if c.target, others, err = r.readTarget(ctx); err != nil {
		return err
	}
	for _, path := range others {
		c.differing[path] = otherType
	}
	return nil
}

// readTarget reads which names are links of each other on a local target, and which are special files of
// another type there.
func (r *run) readTarget(ctx context.Context) (l linkage, others []string, err error) {
	var mu gosync.Mutex
	there := scan.Tree{Root: r.Profile.Target.Path, Prune: r.tree.leavesOut}
	l, err = readLinkage(ctx, there, func(e *scan.Entry) {
		if !special(&e.Stat) {
			return
		}
		if here, err := r.tree.stat(e.Path); err == nil && otherSpecial(&here, &e.Stat) {
			mu.Lock()
			defer mu.Unlock()
			others = append(others, e.Path)
		}
	})
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	} else if err != nil {
		r.say("reading the target: %v", err)
	}
	return l, others, nil
}

// addUnlike puts in doubt what a full pass would leave as it is on a local target: names that only there are
// links of each other, of which rsync would give all the owner, mode and times of one, and special files
// of another type.
func (r *run) addUnlike(ctx context.Context, p *planner, source linkage) error {
	if !r.Profile.Target.Local() || !r.engine.Capabilities.Hardlinks {
		return nil
	}
	target, others, err := r.readTarget(ctx)
	if err != nil {
		return err
	}
	r.unalike = map[string]aspects{}
	for _, path := range others {
		r.unalike[path] = otherType
	}
	for _, path := range target.apart(source, func(path string) bool { return !r.tree.holds(path) }, r.mountOf) {
		r.unalike[path] |= otherLinks
	}
	if len(r.unalike) > 0 {
		r.say("%s of the target are linked to others, or of a type, that the source does not have so", counted(len(r.unalike), "name"))
	}
	for path := range r.unalike {
		p.add(changes.Change{Path: path, Kind: changes.Content, Since: time.Now()})
	}
	return nil
}

func (r *run) optedOut(options ...string) bool {
	return slices.ContainsFunc(r.Profile.RsyncOptions, func(option string) bool { return slices.Contains(options, option) })
}

// unlike gives the names on both sides that differ in what they are links of, but for those to be skipped.
func (r *run) unlike(c *comparison, skip func(path string) bool) []string {
	passOver := func(path string) bool {
		return c.differing[path]&oneSided != 0 || !r.tree.holds(path) || skip(path)
	}
	if !r.Profile.Target.Local() {
		return slices.DeleteFunc(slices.Collect(maps.Keys(c.unlinked)), passOver)
	}
	return append(c.source.apart(c.target, passOver, r.mountOf), c.target.apart(c.source, passOver, r.mountOf)...)
}

// otherSpecial reports whether the two are special files of different types. Of a block and a character device
// rsync compares no more than the numbers.
func otherSpecial(a, b *unix.Stat_t) bool {
	return special(a) && special(b) && a.Mode&unix.S_IFMT != b.Mode&unix.S_IFMT
}

// special reports whether it is a fifo, a socket or a device.
func special(st *unix.Stat_t) bool {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
		return true
	}
	return false
}
