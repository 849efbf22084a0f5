package writers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"rsince/changes"
)

// mounts is the mount table, and which parts of it the source is made of.
type mounts struct {
	source changes.Source
	root   file // the source itself
	table  []*mountinfo.Info
	parts  []part
	// disks are the devices of the file systems that the parts are on, as the mount table and
	// /proc/PID/maps have them. st_dev is another number for each subvolume of btrfs, and on overlayfs.
	disks map[uint64]bool
	// overlaid says that one of them is an overlay. Of what is mapped from it some kernels (6.1)
	// show the device of the layer.
	overlaid bool
}

// A part is what one mount shows of the source.
type part struct {
	mount *mountinfo.Info
	dir   string // where it is seen
	root  string // the path of the same directory within its file system
}

func readMounts(source changes.Source) (*mounts, error) {
	table, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	root, err := lookHere(source.Path)
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", source.Path, err)
	}
	mount := byID(table, root.mount)
	if mount == nil {
		return nil, fmt.Errorf("the mount of %s is not in the mount table", source.Path)
	}
	m := &mounts{source: source, root: root, table: table, disks: map[uint64]bool{}}
	m.add(part{mount: mount, dir: source.Path, root: within(mount, source.Path)})
	for _, mount := range table {
		if _, ok := source.Rel(mount.Mountpoint); ok && !source.OneFileSystem {
			m.add(part{mount: mount, dir: mount.Mountpoint, root: mount.Root})
		}
	}
	return m, nil
}

func (m *mounts) add(p part) {
	m.parts = append(m.parts, p)
	m.disks[device(p.mount)] = true
	m.overlaid = m.overlaid || p.mount.FSType == "overlay"
}

// mayHold reports whether files with this st_dev may be on one of the disks. A number that is not that
// of a disk is anonymous.
func (m *mounts) mayHold(dev uint64) bool { return m.disks[dev] || unix.Major(dev) == 0 }

// readTable returns the mount table of a process; none if it has ended.
func readTable(process string) []*mountinfo.Info {
	f, err := os.Open(process + "/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	table, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil
	}
	return table
}

// change returns the held file's path in the source, or its handle if it may have names there; neither
// if it is outside or lost. The error says why there is no handle.
func (m *mounts) change(h held) (c changes.Change, err error) {
	if h.lost() {
		return c, nil
	}
	var outside bool
	if c.Path, outside = m.locate(h.path, h.identity); c.Path != "" || outside && h.links == 1 {
		return c, nil
	}
	handle, err := handleOf(h.link)
	if err != nil {
		return c, err
	}
	if c.Path, outside, err = m.locateHandle(handle, h.identity); err != nil || c.Path != "" || outside && h.links == 1 {
		return c, err
	}
	return changes.Change{Handle: handle}, nil
}

// locate returns the path in the source of the file that path leads to, which has to be the one
// meant. Outside says that it leads to the file, but not into the source.
func (m *mounts) locate(path string, meant identity) (rel string, outside bool) {
	if !m.mayShow(path) {
		return "", false
	}
	st, err := lookHere(path)
	mount := byID(m.table, st.mount)
	if err != nil || st.identity != meant || mount == nil || !below(path, mount.Mountpoint) {
		return "", false
	}
	for _, p := range m.parts {
		inside, ok := cut(within(mount, path), p.root)
		if !ok || device(p.mount) != device(mount) {
			continue
		}
		here := join(p.dir, inside)
		if rel, ok := m.source.Rel(here); ok && (here == path && mount == p.mount || p.shows(here, meant)) {
			return rel, false
		}
	}
	return "", true
}

// shows reports whether a path leads to the file meant, and nothing is mounted over it.
func (p part) shows(path string, meant identity) bool {
	st, err := lookHere(path)
	return err == nil && st.identity == meant && st.mount == p.mount.ID
}

// mayShow reports whether a path leads to one of the source's file systems, without touching any.
func (m *mounts) mayShow(path string) bool {
	var on *mountinfo.Info
	for _, mount := range m.table {
		if below(path, mount.Mountpoint) && (on == nil || len(mount.Mountpoint) >= len(on.Mountpoint)) {
			on = mount
		}
	}
	return on != nil && m.disks[device(on)]
}

// locateHandle is locate for a file that is known by its handle: opened through a mount that is seen
// here, it has a path that is meant here, as long as the kernel remembers a name of it.
func (m *mounts) locateHandle(handle changes.Handle, meant identity) (rel string, outside bool, err error) {
	for _, mount := range m.candidates() {
		path, err := pathOn(mount, handle)
		if errors.Is(err, unix.EPERM) { // only with CAP_DAC_READ_SEARCH in the first user namespace
			return "", false, fmt.Errorf("open_by_handle_at: %w", err)
		}
		if err != nil {
			continue
		}
		if rel, outside := m.locate(path, meant); rel != "" || outside {
			return rel, outside, nil
		}
	}
	return "", false, nil
}

// candidates are the mounts of the source's file systems, its own first.
func (m *mounts) candidates() (all []*mountinfo.Info) {
	for _, p := range m.parts {
		all = append(all, p.mount)
	}
	for _, mount := range m.table {
		if m.disks[device(mount)] && !slices.Contains(all, mount) {
			all = append(all, mount)
		}
	}
	return all
}

// pathOn returns the path of the file with this handle as seen through mount.
func pathOn(mount *mountinfo.Info, handle changes.Handle) (string, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	dir, err := unix.Open(mount.Mountpoint, flags, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	fd, err := handle.Open(dir)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
}

func handleOf(link string) (changes.Handle, error) {
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, link, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return "", fmt.Errorf("name_to_handle_at: %w", err)
	}
	return changes.Handle(binary.NativeEndian.AppendUint32(nil, uint32(h.Type()))) + changes.Handle(h.Bytes()), nil
}

func byID(table []*mountinfo.Info, id int) *mountinfo.Info {
	for _, mount := range table {
		if mount.ID == id {
			return mount
		}
	}
	return nil
}

// device is the st_dev of the file system's superblock.
func device(mount *mountinfo.Info) uint64 {
	return unix.Mkdev(uint32(mount.Major), uint32(mount.Minor))
}

// within returns the path within its file system of a path below the mount point.
func within(mount *mountinfo.Info, path string) string {
	rel, _ := cut(path, mount.Mountpoint)
	return join(mount.Root, rel)
}

// below reports whether path is dir or below it.
func below(path, dir string) bool {
	_, ok := cut(path, dir)
	return ok
}

// cut returns path relative to dir, without a leading slash. Both are absolute and clean.
func cut(path, dir string) (rel string, ok bool) {
	rel, ok = strings.CutPrefix(path, strings.TrimSuffix(dir, "/"))
	return strings.TrimPrefix(rel, "/"), ok && (rel == "" || rel[0] == '/')
}

func join(dir, rel string) string {
	if rel == "" {
		return dir
	}
	return strings.TrimSuffix(dir, "/") + "/" + rel
}
