package inotify

import (
	"slices"
	"strings"
)

// A dir is a directory of the source, watched unless the user may not read it. It never changes its place:
// a directory that moved is dropped here and added there.
type dir struct {
	parent   *dir // nil for the source itself and for the directory of cookies
	name     string
	children []*dir // by name
	id       identity
	key      uint64
	// blind: something in it could not be seen for want of permission, and so cannot be copied
	// either. When its attributes change it is looked at again.
	blind bool
}

// path returns d's path relative to the source, "." for the source itself.
func (d *dir) path() string {
	if d.parent == nil {
		return "."
	}
	return d.parent.join(d.name)
}

// join returns the path, relative to the source, of name in d.
func (d *dir) join(name string) string {
	names := []string{name}
	for ; d.parent != nil; d = d.parent {
		names = append(names, d.name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// child returns the directory called name in d; nil if none is known.
func (d *dir) child(name string) *dir {
	if i, ok := d.search(name); ok {
		return d.children[i]
	}
	return nil
}

func (d *dir) search(name string) (int, bool) {
	return slices.BinarySearchFunc(d.children, name, func(c *dir, name string) int { return strings.Compare(c.name, name) })
}

// setBlind marks d and every directory above it.
func (d *dir) setBlind() {
	for ; d != nil; d = d.parent {
		d.blind = true
	}
}

// insert makes a new dir known. Its watch is still to be added.
func (w *watch) insert(parent *dir, name string, id identity) *dir {
	d := &dir{parent: parent, name: name, id: id, key: w.keys.next()}
	if parent != nil {
		i, _ := parent.search(name)
		parent.children = slices.Insert(parent.children, i, d)
	}
	w.byID[id] = d
	w.byKey[d.key] = d
	return d
}

// drop forgets d and everything below it, with their watches.
func (w *watch) drop(d *dir) {
	for len(d.children) > 0 {
		w.drop(d.children[len(d.children)-1])
	}
	if d.parent != nil {
		if i, ok := d.parent.search(d.name); ok {
			d.parent.children = slices.Delete(d.parent.children, i, i+1)
		}
	}
	if w.byID[d.id] == d {
		delete(w.byID, d.id)
	}
	delete(w.byKey, d.key)
	if w.root == d {
		w.root = nil
	}
	// It fails when the watch ended by itself, with its directory.
	_ = w.fs.Remove(w.keys.path(d.key))
}

// known reports whether d has not been dropped.
func (w *watch) known(d *dir) bool { return w.byKey[d.key] == d }

// find returns the directory at path, relative to the source; nil if it is not known.
func (w *watch) find(path string) *dir {
	d := w.root
	if path == "." || d == nil {
		return d
	}
	for name := range strings.SplitSeq(path, "/") {
		if d = d.child(name); d == nil {
			return nil
		}
	}
	return d
}

// split returns the directory of path and the last name in it, both relative to the source.
func split(path string) (parent, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return ".", path
}
