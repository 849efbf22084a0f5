package fanotify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

// lookup returns the path of a directory that lies in a source of the view, from the cache if it
// can; else outside or skipped.
//
// A path from the cache may be older than the event it is used for, and that is safe. A cached path
// was true at some moment after the last directory rename that has been applied. If it is wrong
// now, the directory or one above it was renamed since, so that rename is still in the queue. When
// it is applied, it records the whole subtree at its old and at its new name, and the same argument
// holds for the two paths it records; the last rename of all is resolved when no rename is left
// that could make its path wrong. A path that is newer than the event is what is wanted anyway.
// Removed directories keep their entries: a name recorded too many is looked at and nothing more.
func (v *view) lookup(dir handle) string {
	if path, ok := v.paths.get(dir); ok {
		return path
	}
	path, err := v.resolve(dir)
	switch {
	case errors.Is(err, errTooDeep):
		return outside
	case err != nil && !isGone(err):
		v.gap("finding a changed directory: " + err.Error())
		return outside
	case err != nil || !v.covers(path):
		path = outside
	case v.skips(path):
		path = skipped
	}
	v.paths.put(dir, path)
	return path
}

// Paths that stand for directories not to be recorded.
const (
	outside = ""
	skipped = "-"
)

var (
	// errElsewhere is resolve's answer for what this mount does not show.
	errElsewhere = errors.New("not visible in this mount")
	// errTooDeep is its answer for a path longer than the kernel tells; then a directory above is
	// recorded with all that is below.
	errTooDeep = errors.New("path too long")
)

// isGone reports whether err says that there is nothing to record. A removed directory (ESTALE) is
// covered by its own removal, which the nearest directory still alive reports; one outside the
// mount, or hidden below another mount, is not part of a source.
func isGone(err error) bool {
	return errors.Is(err, errElsewhere) || errors.Is(err, errTooDeep) || errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOENT)
}

// resolve returns the path that h has now in the view's mount. It asks the path for its handle
// again and believes it only if that agrees: a removed directory's path ends in " (deleted)", and
// one outside a bind mount or without a dentry has a path that leads elsewhere.
func (v *view) resolve(h handle) (string, error) {
	fd, err := v.open(h)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	path, err := v.pathOf(fd)
	if errors.Is(err, unix.ENAMETOOLONG) {
		return "", v.recordAbove(fd)
	}
	if err != nil {
		return "", err
	}
	if !v.shows(path, h) {
		return "", errElsewhere
	}
	return path, nil
}

// open returns an O_PATH descriptor of the file with handle h.
func (v *view) open(h handle) (int, error) {
	mount, err := v.mountFD()
	if err != nil {
		return -1, err
	}
	return changes.Handle(h).Open(mount)
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

// recordAbove records the nearest directory above fd whose path the kernel tells as a subtree in
// doubt, and returns errTooDeep.
func (v *view) recordAbove(fd int) error {
	for above := ".."; ; above += "/.." {
		up, err := unix.Openat(fd, above, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("looking above a deep directory: %w", err)
		}
		path, err := v.pathOf(up)
		unix.Close(up)
		if err == nil {
			v.recordPath(path, changes.Subtree)
			return errTooDeep
		}
		if !errors.Is(err, unix.ENAMETOOLONG) {
			return err
		}
	}
}

// shows reports whether path leads to the file with handle h, on this mount and no other.
func (v *view) shows(path string, h handle) bool {
	got, mountID, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	return err == nil && mountID == v.mount.ID && h.is(got)
}

// handleAt returns the handle of path, a symlink itself included, and the id of its mount.
func handleAt(path string) (changes.Handle, int, error) {
	got, mountID, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	if err != nil {
		return "", 0, err
	}
	h := binary.NativeEndian.AppendUint32(nil, uint32(got.Type()))
	return changes.Handle(append(h, got.Bytes()...)), mountID, nil
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
