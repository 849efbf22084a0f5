package fanotify

import (
	"bytes"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

const (
	written = unix.FAN_MODIFY | unix.FAN_CLOSE_WRITE
	named   = unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_RENAME
)

// apply records what e says about the sources of the view. The mask may be several events merged
// into one, and says nothing about their order: the kind recorded is the one that is right for all.
func (v *view) apply(e *event) {
	switch {
	case e.mask&unix.FAN_RENAME != 0 && e.mask&unix.FAN_ONDIR != 0:
		v.renameDirectory(e)
	case e.mask&unix.FAN_RENAME != 0:
		v.recordRename(v.named(e.dir, e.name), v.named(e.newDir, e.newName), false)
	case e.mask&unix.FAN_ONDIR != 0:
		v.applyDirectory(e)
	case len(e.name) == 0 || bytes.IndexByte(e.name, '/') >= 0:
		// A file opened by handle may have no name at all: the kernel says none, or "/".
		v.applyNameless(e)
	default:
		v.applyFile(e)
	}
}

// fileKind is the doubt that mask leaves about what is not a directory.
func fileKind(mask uint64) changes.Kind {
	switch {
	case mask&unix.FAN_DELETE != 0:
		return changes.Gone
	case mask&(unix.FAN_CREATE|written) != 0:
		return changes.Content
	default:
		return changes.Attributes
	}
}

// applyDirectory records an event of a directory. A new one's entries report themselves, unless it
// is a snapshot. After a removal there may be another under the same name, and what was in the old
// one is never named again.
func (v *view) applyDirectory(e *event) {
	dir := v.lookup(e.dir)
	if dir == outside || dir == skipped {
		return
	}
	path := join(dir, string(e.name))
	kind := changes.Attributes
	switch {
	case e.mask&unix.FAN_DELETE != 0 || e.mask&unix.FAN_CREATE != 0 && v.isSubvolume(path):
		kind = changes.Subtree
	case e.mask&unix.FAN_CREATE != 0:
		kind = changes.Content
	}
	v.recordPath(path, kind)
}

// isSubvolume reports whether path is the root of a btrfs subvolume: these have the inode number
// BTRFS_FIRST_FREE_OBJECTID, which no other directory has.
func (v *view) isSubvolume(path string) bool {
	var stat unix.Stat_t
	return v.mount.FSType == "btrfs" && unix.Lstat(path, &stat) == nil && stat.Ino == 256
}

// renameDirectory records both names as subtrees in doubt and forgets all paths, for they may lead
// through the directory, also when it came from outside every source.
func (v *view) renameDirectory(e *event) {
	v.paths.clear()
	from, to := v.moved(e.dir, e.name), v.moved(e.newDir, e.newName)
	v.recordRename(from, to, true)
	for _, w := range v.watches {
		if from != outside && below(w.source.Path, from) || to != outside && below(w.source.Path, to) {
			// What happened inside meanwhile was not seen under the source's path.
			w.moved = true
		}
	}
}

// moved returns a path that a directory had or now has, in a source or not; outside if there is none.
func (v *view) moved(dir handle, name []byte) string {
	parent, err := v.resolve(dir)
	if err != nil {
		if !isGone(err) {
			v.gap("finding a renamed directory: " + err.Error())
		}
		return outside
	}
	return join(parent, string(name))
}

// recordRename records what of both paths lies in a source. Either may be outside.
func (v *view) recordRename(from, to string, dir bool) {
	was, is := changes.Gone, changes.Content
	if dir {
		was, is = changes.Subtree, changes.Subtree
	}
	for _, w := range v.watches {
		relFrom, inFrom := w.rel(from)
		relTo, inTo := w.rel(to)
		switch {
		case inFrom && inTo:
			w.rec.RecordRename(relFrom, relTo, dir)
		case inFrom:
			w.rec.Record(relFrom, was)
		case inTo:
			w.rec.Record(relTo, is)
		}
	}
}

// applyFile records an event of a name that is not a directory's.
func (v *view) applyFile(e *event) {
	if e.mask&unix.FAN_CREATE != 0 {
		v.single.drop(e.file) // it may be a new link to a known file
	}
	dir := v.lookup(e.dir)
	if dir == skipped {
		return
	}
	touched := e.mask&(written|unix.FAN_ATTRIB) != 0
	if dir == outside {
		if touched {
			v.applyOutside(e)
		}
		return
	}
	path := join(dir, string(e.name))
	leads, links := true, 1
	if touched {
		leads, links = v.leads(path, e.file)
	}
	if leads || e.mask&named != 0 {
		v.recordPath(path, fileKind(e.mask))
	}
	switch {
	case !leads:
		// The name was removed or replaced, which reports itself, or it never was one
		// (O_TMPFILE). The file may have other names.
		v.follow(e.file, fileKind(e.mask&^named))
	case links > 1:
		// This name may be removed before anybody asks for the others.
		v.recordFile(e.file)
	}
}

// leads reports whether path is a name of the file, and how many names that has. A path that is too
// long to be asked for is believed.
func (v *view) leads(path string, file handle) (leads bool, links int) {
	if len(path) >= unix.PathMax {
		return true, 1
	}
	var stat unix.Stat_t
	if !v.shows(path, file) || unix.Lstat(path, &stat) != nil {
		return false, 0
	}
	return true, int(stat.Nlink)
}

// named returns the path of a name in a directory; outside if that is not in a source.
func (v *view) named(dir handle, name []byte) string {
	path := v.lookup(dir)
	if path == outside || path == skipped {
		return outside
	}
	return join(path, string(name))
}

func (v *view) recordPath(path string, kind changes.Kind) {
	for _, w := range v.watches {
		w.record(path, kind)
	}
}
