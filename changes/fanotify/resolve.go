package fanotify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

// lookup returns where a directory lies, from the cache if it can.
//
// What the cache says may be older than the event it is used for, and that is safe. It was true at
// some moment after the last directory rename that emptied the cache. If it is wrong now, the
// directory or one above it was renamed since, so that rename is still in the queue. When it is
// applied, it records the whole subtree at its old and at its new name, and the same argument holds
// for the two paths it records; the last rename of all is resolved when no rename is left that could
// make its path wrong. A path that is newer than the event is what is wanted anyway. Removed
// directories keep their entries: a name recorded too many is looked at and nothing more.
//
// It holds for each step up as well as for a path: the site of a directory may be taken over from
// one above it in the cache. And it holds although a rename from outside to outside does not empty
// the cache, see renameDirectory.
func (v *view) lookup(dir handle) site {
	if s, ok := v.sites.get(dir); ok {
		return s
	}
	s, err := v.locate(dir)
	switch {
	case isGone(err):
		s = site{area: gone}
	case err != nil:
		v.gap("finding a changed directory: " + err.Error())
		return site{area: gone}
	}
	v.remember(dir, s)
	return s
}

// remember puts the site of a directory into the cache. Deep ones share the path of one that is in
// it too.
func (v *view) remember(dir handle, s site) {
	bytes := len(s.path)
	if s.area == deep {
		bytes = 0
	}
	v.sites.put(dir, s, bytes)
}

// errElsewhere says that something is not visible in the view's mount.
var errElsewhere = errors.New("not visible in this mount")

// isGone reports whether err says that there is nothing to record. A removed directory (ESTALE) is
// covered by its own removal, which the nearest directory still alive reports; one outside the
// mount, or hidden below another mount, is not part of a source.
func isGone(err error) bool {
	return errors.Is(err, errElsewhere) || errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOENT)
}

// locate finds out where a directory lies now in the view's mount.
func (v *view) locate(h handle) (site, error) {
	fd, err := v.directory(h)
	if err != nil {
		return site{}, err
	}
	path, err := v.pathOf(fd)
	if errors.Is(err, unix.ENAMETOOLONG) {
		return v.climb(fd)
	}
	if err != nil {
		return site{}, err
	}
	return v.siteAt(path, h), nil
}

// open returns an O_PATH descriptor of the file with handle h.
func (v *view) open(h handle) (int, error) {
	mount, err := v.mountFD()
	if err != nil {
		return -1, err
	}
	return changes.Handle(h).Open(mount)
}

// directory returns an O_PATH descriptor of the directory with handle h. It stays the view's, for the
// files in one directory come one after the other, and is closed by the next call.
func (v *view) directory(h handle) (int, error) {
	if bytes.Equal(v.last.handle, h) {
		return v.last.fd, nil
	}
	v.last.close()
	fd, err := v.open(h)
	if err == nil {
		v.last = openDir{bytes.Clone(h), fd}
	}
	return fd, err
}

// pathOf returns the path of an open file as this process would name it.
func (v *view) pathOf(fd int) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf[:])
	if err != nil {
		return "", err
	}
	path := string(buf[:n])
	if v.detached < 0 {
		return path, nil
	}
	// A detached mount has no place in the tree: its paths begin at its root, as the view's root does.
	below, ok := strings.CutPrefix(path, v.mount.Root)
	if !ok {
		return "", errElsewhere
	}
	return join(v.mount.Mountpoint, strings.TrimPrefix(below, "/")), nil
}

// shows reports whether path leads to the file with handle h, on this mount and no other.
func (v *view) shows(path string, h handle) bool {
	got, mountID, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	return err == nil && mountID == v.mount.ID && h.is(got)
}

// handleAt returns the handle of path, a symlink itself included, and the id of its mount.
func handleAt(path string) (changes.Handle, int, error) {
	h, mountID, err := nameToHandle(unix.AT_FDCWD, path, 0)
	return changes.Handle(h), mountID, err
}

// handleOf returns the handle of an open file and the id of its mount.
func handleOf(fd int) (handle, int, error) { return nameToHandle(fd, "", unix.AT_EMPTY_PATH) }

func nameToHandle(dir int, path string, flags int) (handle, int, error) {
	got, mountID, err := unix.NameToHandleAt(dir, path, flags)
	if err != nil {
		return nil, 0, err
	}
	h := binary.NativeEndian.AppendUint32(nil, uint32(got.Type()))
	return append(h, got.Bytes()...), mountID, nil
}

// is reports whether h and other are the same handle.
func (h handle) is(other unix.FileHandle) bool {
	return len(h) >= 4 && int32(binary.NativeEndian.Uint32(h)) == other.Type() && string(h[4:]) == string(other.Bytes())
}

// join returns the path of name in dir.
func join(dir, name string) string {
	switch {
	case name == "" || name == ".":
		return dir
	case dir == "/":
		return dir + name
	}
	return dir + "/" + name
}
