package fanotify

import (
	"bytes"
	"errors"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// Nesting directories takes no right but to one of them, and makes paths that the kernel neither
// tells nor takes. Where such a directory lies is found by going up from it, to one that is known or
// has a path. What is passed is remembered, so that a chain of directories costs a few system calls
// for each of them, in whatever order they are asked for.

// near is how many levels are gone up one by one; above, it is as many at once. So no directory of
// a chain is farther than this from a remembered one, and a chain far longer than the cache can hold
// does not have to be gone up again and again.
const near = 64

// climb returns where an open directory lies that has no path, and remembers that for those above
// it.
func (v *view) climb(fd int) (site, error) {
	trail, s, err := v.ascend(fd)
	if errors.Is(err, errUnknown) {
		trail, s, err = v.findPath(trail)
	}
	if err != nil {
		return site{}, err
	}
	// The nearest last: it is the most likely to be asked for, and the cache may begin anew.
	for _, h := range slices.Backward(trail) {
		v.remember(h, s)
	}
	return s, nil
}

// errUnknown says that no directory above is known to tell where one lies.
var errUnknown = errors.New("not known")

// ascend goes up from fd to a directory that is known to tell where fd lies, else to the root: then
// the error is errUnknown. It returns the handles of those on the way, the nearest first.
func (v *view) ascend(fd int) (trail []handle, s site, err error) {
	at, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, site{}, err
	}
	defer func() { unix.Close(at) }()
	for levels := 1; ; {
		h, err := v.rise(&at, levels)
		switch {
		case len(trail) > 0 && (errors.Is(err, errElsewhere) || bytes.Equal(h, trail[len(trail)-1])):
			return trail, site{}, errUnknown // above the mount, or again the root of all
		case err != nil:
			return nil, site{}, err
		}
		if s, known := v.sites.get(h); known && s.settles() {
			return trail, s, nil
		}
		if trail = append(trail, h); len(trail) == near {
			levels = near
		}
	}
}

// rise puts the directory so many levels above an open one in its place, and returns its handle.
func (v *view) rise(fd *int, levels int) (handle, error) {
	above, err := up(*fd, levels)
	if err != nil {
		return nil, err
	}
	unix.Close(*fd)
	*fd = above
	return v.handleOf(above)
}

// findPath returns where the directories at the beginning of trail lie that have no path, and these.
func (v *view) findPath(trail []handle) ([]handle, site, error) {
	n := sort.Search(len(trail), func(i int) bool { return v.hasPath(trail[i]) })
	switch {
	case n >= near: // the nearest that has one is passed over in trail
		s, err := v.locate(trail[n-1])
		return trail[:n], s, err
	case n == len(trail): // not even the mount's root, and so no source in it
		return nil, site{}, errElsewhere
	}
	s, err := v.locate(trail[n])
	if err != nil {
		return nil, site{}, err
	}
	v.remember(trail[n], s)
	return trail[:n], s.below(), nil
}

// hasPath reports whether a directory's path is not too long.
func (v *view) hasPath(dir handle) bool {
	fd, err := v.open(dir)
	if err != nil {
		return true // whoever asks for it is told why it has none
	}
	defer unix.Close(fd)
	_, err = v.pathOf(fd)
	return !errors.Is(err, unix.ENAMETOOLONG)
}

// up opens the directory so many levels above an open one, or the root if there are fewer. It fails
// with ENOENT for one that a bind mount does not show.
func up(fd, levels int) (int, error) {
	return unix.Openat(fd, strings.Repeat("../", levels), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// handleOf returns the handle of a directory opened by going up. That may have led out of the mount,
// to where the same handle is another directory's: then it is errElsewhere.
func (v *view) handleOf(fd int) (handle, error) {
	h, mountID, err := handleOf(fd)
	if err == nil && mountID != v.opened {
		err = errElsewhere
	}
	return h, err
}
