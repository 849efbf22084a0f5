package fanotify

import (
	"slices"
	"strings"
)

// A site says where a directory lies as the sources of a view see it. The zero value is outside.
type site struct {
	area area
	// path is the directory's own if it is inside or above. If it is deep, it is that of the nearest
	// directory above that has one: recorded as a subtree in doubt, it stands for all that is below.
	path string
}

type area uint8

const (
	outside area = iota // of every source
	gone                // removed, or not visible in the view's mount where a source is
	skipped             // in a source, where no watch wants anything
	deep                // in a source, with a path longer than the kernel tells
	inside              // a source, or in one
	above               // a source is below
)

// settles reports whether everything below a directory at s is at s too.
func (s site) settles() bool { return s.area <= deep }

// below returns where a directory without a path lies, s being that of the nearest one above that
// has a path, or of any above if it settles.
func (s site) below() site {
	switch s.area {
	case inside:
		return site{deep, s.path}
	case above: // a source has a path: it is not in between
		return site{}
	}
	return s
}

// siteAt returns where the directory with handle h lies that the kernel says is at path. Where that may
// be wrong, it asks the path for its handle again and believes it only if that agrees.
func (v *view) siteAt(path string, h handle) site {
	covered, leads := v.covers(path), v.leadsToSource(path)
	switch {
	case !covered && !leads:
		return site{}
	case v.mayMislead(path) && !v.shows(path, h):
		return site{area: gone}
	case covered && !v.skips(path):
		return site{inside, path}
	case leads:
		return site{above, path}
	}
	return site{area: skipped}
}

// mayMislead reports whether the path that the kernel gives a directory may lead to something else: a
// removed one's ends in " (deleted)", one that a bind mount does not show has the path it has outside,
// and another mount may hide it.
func (v *view) mayMislead(path string) bool {
	return v.detached >= 0 || v.mount.Root != "/" || strings.HasSuffix(path, " (deleted)") ||
		slices.ContainsFunc(v.watches, func(w *watch) bool { return w.mountedAt(path) })
}

// covers reports whether path lies in a source of the view.
func (v *view) covers(path string) bool {
	return slices.ContainsFunc(v.watches, func(w *watch) bool { return below(path, w.source.Path) })
}

// leadsToSource reports whether a source of the view lies at path or below it.
func (v *view) leadsToSource(path string) bool {
	return slices.ContainsFunc(v.watches, func(w *watch) bool { return below(w.source.Path, path) })
}

// skips reports whether no watch wants what is below path, though it lies in a source.
func (v *view) skips(path string) bool {
	return !slices.ContainsFunc(v.watches, func(w *watch) bool {
		_, ok := w.source.Rel(path)
		return ok
	})
}
