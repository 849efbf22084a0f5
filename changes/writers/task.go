package writers

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"rsince/changes/scan"
)

// A task is the directory of one in /proc.
type task string

// open returns the files that the task has descriptors of for writing.
func (t task) open(m *mounts) (all []held, first error) {
	dir, err := unix.Open(string(t)+"/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, unlessGone(err)
	}
	defer unix.Close(dir)
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Getdents(dir, buf)
		if err != nil || n == 0 {
			return all, cmp.Or(first, unlessGone(err))
		}
		for d := range scan.Dirents(buf[:n]) {
			h, ok, err := t.follow(m, dir, string(d.Name))
			if ok {
				h.link = string(t) + "/fd/" + string(d.Name)
				all = append(all, h)
			}
			if errors.Is(err, unix.EACCES) {
				return all, err
			}
			first = cmp.Or(first, unlessGone(err))
		}
	}
}

// mapped returns the files that the task has mapped shared and opened for writing: the memory need
// not be writable now to have been.
func (t task) mapped(m *mounts) (all []held, first error) {
	maps, err := os.Open(string(t) + "/maps")
	if err != nil {
		return nil, unlessGone(errors.Unwrap(err))
	}
	defer maps.Close()
	mappings, err := sharedMappings(maps)
	first = unlessGone(err)
	for _, mapping := range mappings {
		if !m.mayHold(mapping.dev) && !m.overlaid {
			continue
		}
		link := fmt.Sprintf("%s/map_files/%v", t, mapping)
		h, ok, err := t.follow(m, unix.AT_FDCWD, link)
		if errors.Is(err, unix.EPERM) {
			h, ok, err = t.name(m, link, mapping)
		}
		if ok {
			h.link, h.mapped = link, true
			all = append(all, h)
		}
		first = cmp.Or(first, unlessGone(err))
	}
	return all, first
}

// follow looks at what a link in fd or map_files leads to, and reports whether it was opened for
// writing and may be in the source.
func (t task) follow(m *mounts, dir int, link string) (h held, ok bool, err error) {
	h.process = string(t)
	h.file, err = look(dir, link, 0)
	if errors.Is(err, unix.EACCES) {
		return h, false, m.refusal(dir, link)
	}
	if err != nil || !h.regular || h.links == 0 || !m.mayHold(h.dev) || !writable(dir, link) {
		return h, false, err
	}
	h.path, err = readlink(dir, link)
	return h, err == nil, err
}

// refusal says what is refused where a link could not be followed: unix.EACCES is the task. Another
// user's FUSE refuses everybody, which is no matter on other file systems than the source's.
func (m *mounts) refusal(dir int, link string) error {
	path, err := readlink(dir, link)
	if err == nil && m.mayShow(path) {
		return fmt.Errorf("its file %q may not be looked at", path)
	}
	return err
}

// name is follow for who lacks CAP_CHECKPOINT_RESTORE and CAP_SYS_ADMIN in the first user namespace,
// and may only read links in map_files (fs/proc/base.c, proc_map_files_get_link).
func (t task) name(m *mounts, link string, mapped mapping) (h held, ok bool, err error) {
	if !m.disks[mapped.dev] || !writable(unix.AT_FDCWD, link) {
		return h, false, nil
	}
	h.process = string(t)
	if h.path, err = readlink(unix.AT_FDCWD, link); err != nil {
		return h, false, err
	}
	if m.mayShow(h.path) {
		h.file, err = lookHere(h.path)
	}
	if err != nil || h.ino != mapped.ino || !h.regular {
		return h, false, fmt.Errorf("what is mapped as %q is not to be seen there", h.path)
	}
	return h, true, nil
}

// writable reports whether the file behind a link in fd or map_files was opened for writing: the
// link's permissions are the file's mode (fs/proc/fd.c, tid_fd_update_inode). That is one system call
// where fdinfo costs three.
func writable(dir int, link string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, link, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IWUSR != 0
}

// readlink returns the path that a link shows, or nothing if it is too long for the kernel.
func readlink(dir int, link string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, link, buf)
	if errors.Is(err, unix.ENAMETOOLONG) {
		return "", nil
	}
	return string(buf[:max(n, 0)]), err
}
