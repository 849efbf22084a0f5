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
		v.single.drop(e.file) // it may be in a source from now on
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
	path := v.named(e.dir, e.name)
	if path == "" {
		return
	}
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

// renameDirectory records both names as subtrees in doubt and forgets where directories and files lie, for
// they may lie in this one, also when it came from outside every source.
//
// One that goes from outside to outside takes nothing with it but what is outside and stays so, and
// the cache is kept: else whoever may write anywhere could keep it empty. Should the cache be wrong
// in calling the new parent outside, then that or one above it went into a source after it was
// looked at. Of all such moves the one nearest to the source went to a directory that has been in the
// source all the time. Its event empties the cache, or has yet to be read.
func (v *view) renameDirectory(e *event) {
	if v.lookup(e.dir).area == outside && v.lookup(e.newDir).area == outside {
		return
	}
	v.forget() // also which files are outside: the directory may have brought some in
	from, to := v.moved(e.dir, e.name), v.moved(e.newDir, e.newName)
	v.recordRename(from, to, true)
	for _, w := range v.watches {
		if from != "" && below(w.source.Path, from) || to != "" && below(w.source.Path, to) {
			// What happened inside meanwhile was not seen under the source's path.
			w.moved = true
		}
	}
}

// moved returns a path that a directory had or now has, in a source or above one; else nothing.
func (v *view) moved(dir handle, name []byte) string {
	if s := v.lookup(dir); s.area == above {
		return join(s.path, string(name))
	}
	return v.named(dir, name)
}

// recordRename records what of both paths lies in a source. Either may be empty.
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
	path := v.named(e.dir, e.name)
	touched := e.mask&(written|unix.FAN_ATTRIB) != 0
	if path == "" {
		if touched && v.lookup(e.dir).area != skipped {
			v.applyOutside(e)
		}
		return
	}
	leads, links := true, 1
	if touched {
		leads, links = v.leads(e)
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

// leads reports whether the event's name is one of its file's, and how many names that has. It asks
// in the directory itself, which need not be visible nor have a path.
func (v *view) leads(e *event) (leads bool, links int) {
	dir, err := v.directory(e.dir)
	if err != nil {
		return false, 0
	}
	name := string(e.name)
	var stat unix.Stat_t
	if err := unix.Fstatat(dir, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, 0
	}
	got, _, err := unix.NameToHandleAt(dir, name, 0)
	return err == nil && e.file.is(got), int(stat.Nlink)
}

// named returns the path of a name in a directory of a source, and nothing elsewhere. A name without
// a path, deep in a source, is recorded: the subtree that it is in is in doubt.
func (v *view) named(dir handle, name []byte) string {
	switch s := v.lookup(dir); s.area {
	case inside:
		return join(s.path, string(name))
	case deep:
		v.recordPath(s.path, changes.Subtree)
	}
	return ""
}

func (v *view) recordPath(path string, kind changes.Kind) {
	for _, w := range v.watches {
		w.record(path, kind)
	}
}
