package fanotify

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// A view is one mount of a marked file system, through which handles are resolved to the paths that
// this process sees. A bind mount shows a part of the file system, and only that part resolves.
type view struct {
	mount *mountinfo.Info
	fsid  fsid
	// detached is the descriptor of a mount of the whole file system that stands in for this one,
	// or -1.
	detached int
	// fd is a descriptor on the mount while events are read, or -1. Kept longer, it would keep
	// the file system from being unmounted.
	fd int
	// opened is the id of the mount that handles are opened on: this one, or the detached one.
	opened  int
	last    openDir // while events are read
	watches []*watch
	sites   cache[site]     // of directories
	single  cache[struct{}] // files outside every source that have one link
	trouble string          // why something was missed in this reading
}

// openDir is a directory that is open; the zero value is none.
type openDir struct {
	handle handle
	fd     int
}

func (o *openDir) close() {
	if o.handle != nil {
		unix.Close(o.fd)
		*o = openDir{}
	}
}

// errNoMount is mountFD's answer when no source of the view is where it was.
var errNoMount = errors.New("the source is not where it was")

// view returns the view of the mount with the given id, and marks its file system if it is new. dir
// is a directory on it.
func (g *Group) view(table map[int]*mountinfo.Info, id int, dir string) (*view, error) {
	for _, v := range g.views {
		if v.mount.ID == id {
			return v, nil
		}
	}
	m := table[id]
	if m == nil {
		return nil, fmt.Errorf("the mount of %s is not in %s", dir, mountTable)
	}
	v := &view{mount: m, detached: -1, fd: -1, opened: id}
	if err := v.mark(g.queue, dir); err != nil {
		v.close()
		return nil, err
	}
	g.views = append(g.views, v)
	return v, nil
}

// leave takes w off all views, and ends views and marks that nobody needs any more.
func (g *Group) leave(w *watch) {
	for _, v := range slices.Clone(g.views) {
		if !slices.Contains(v.watches, w) {
			continue
		}
		fd, err := v.mountFD()
		v.watches = slices.DeleteFunc(v.watches, func(other *watch) bool { return other == w })
		v.forget()
		if len(v.watches) > 0 {
			v.rest()
			continue
		}
		g.views = slices.DeleteFunc(g.views, func(other *view) bool { return other == v })
		// If it cannot be reached any more, the mark is gone with the mount, or its events find
		// no view.
		if err == nil && !slices.ContainsFunc(g.views, v.sameFileSystem) {
			unmark(g.queue, fd)
		}
		v.close()
	}
}

func (v *view) sameFileSystem(other *view) bool {
	return v.mount.Major == other.mount.Major && v.mount.Minor == other.mount.Minor
}

// isAlive reports whether the view's mount is what and where it was, and still marked.
func (v *view) isAlive(queue int, table map[int]*mountinfo.Info) bool {
	m := table[v.mount.ID]
	if m == nil || m.Mountpoint != v.mount.Mountpoint || m.Root != v.mount.Root ||
		m.Major != v.mount.Major || m.Minor != v.mount.Minor {
		return false
	}
	fd, err := v.mountFD()
	return err == nil && isMarked(queue, fd)
}

// mountFD returns a descriptor on a directory of the mount, for open_by_handle_at(2). It stays the
// view's.
func (v *view) mountFD() (int, error) {
	if v.detached >= 0 {
		return v.detached, nil
	}
	if v.fd >= 0 {
		return v.fd, nil
	}
	for _, w := range v.watches {
		for _, dir := range w.dirsOn(v.mount.ID) {
			fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err == unix.EMFILE || err == unix.ENFILE {
				return -1, &fs.PathError{Op: "open", Path: dir, Err: err}
			}
			if err != nil {
				continue
			}
			if _, id, err := handleOf(fd); err == nil && id == v.mount.ID {
				v.fd = fd
				return fd, nil
			}
			unix.Close(fd)
		}
	}
	return -1, errNoMount
}

// gap notes that an event was missed; it is told once, at the end of the reading.
func (v *view) gap(reason string) { v.trouble = reason }

// rest ends a reading: it lets go of the mount and tells what was missed.
func (v *view) rest() {
	v.last.close()
	if v.fd >= 0 {
		unix.Close(v.fd)
		v.fd = -1
	}
	if v.trouble == "" {
		return
	}
	for _, w := range v.watches {
		w.gap(w.source.Path, v.trouble, w.group.read)
	}
	v.trouble = ""
}

// close ends the view.
func (v *view) close() {
	v.rest()
	if v.detached >= 0 {
		unix.Close(v.detached)
	}
}

// forget drops the caches.
func (v *view) forget() {
	v.sites.clear()
	v.single.clear()
}
