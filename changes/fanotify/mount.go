package fanotify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const mountTable = "/proc/self/mountinfo"

// readMounts returns the mounts this process sees by their ids.
func readMounts() (map[int]*mountinfo.Info, error) {
	f, err := os.Open(mountTable)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", mountTable, err)
	}
	table := make(map[int]*mountinfo.Info, len(list))
	for _, m := range list {
		table[m.ID] = m
	}
	return table, nil
}

// remote are the file systems whose contents change without this kernel's doing: a mark would see
// a part. Those in user space (FUSE) are recognized by their prefix.
var remote = map[string]bool{
	"9p": true, "afs": true, "ceph": true, "cifs": true, "gfs2": true, "lustre": true, "nfs": true,
	"nfs4": true, "ocfs2": true, "smb3": true, "virtiofs": true,
}

// mark marks the file system of the view's mount, dir being a directory on it, and sets the fsid
// that its events will carry.
func (v *view) mark(queue int, dir string) error {
	fsType := v.mount.FSType
	if remote[fsType] || strings.HasPrefix(fsType, "fuse") {
		return fmt.Errorf("fanotify cannot see all changes of %s (file system type %s)", dir, fsType)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening %s: %w", dir, err)
	}
	defer unix.Close(fd)

	err = markAt(queue, fd)
	if errors.Is(err, unix.EXDEV) && fsType == "btrfs" {
		// The kernel takes no mark through a subvolume, whose fsid is not the file system's.
		top, topErr := mountTop(v.mount.Source)
		if topErr != nil {
			return fmt.Errorf("fanotify does not support btrfs subvolumes, and mounting the top level for %s: %w", dir, topErr)
		}
		v.detached = top
		if _, v.opened, err = handleOf(top); err != nil {
			return fmt.Errorf("looking at the top level of %s: %w", dir, err)
		}
		err = markAt(queue, top)
	}
	if err != nil {
		return fmt.Errorf("fanotify does not support %s (file system type %s): %w", dir, fsType, err)
	}
	marked := fd
	if v.detached >= 0 {
		marked = v.detached
	}
	var stat unix.Statfs_t
	if err := unix.Fstatfs(marked, &stat); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	for i, word := range stat.Fsid.Val {
		binary.NativeEndian.PutUint32(v.fsid[4*i:], uint32(word))
	}
	return nil
}

func markAt(queue, fd int) error {
	return unix.FanotifyMark(queue, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, eventMask, fd, "")
}

// isMarked reports whether the file system of fd still has its mark, which goes with its last
// unmount: taking away a bit that was never set changes nothing, and fails without a mark.
func isMarked(queue, fd int) bool {
	return unix.FanotifyMark(queue, unix.FAN_MARK_REMOVE|unix.FAN_MARK_FILESYSTEM, unix.FAN_DELETE_SELF, fd, "") == nil
}

func unmark(queue, fd int) error {
	return unix.FanotifyMark(queue, unix.FAN_MARK_REMOVE|unix.FAN_MARK_FILESYSTEM, eventMask, fd, "")
}

// mountTop mounts the top-level subvolume of the btrfs file system on device where nobody sees it:
// the mount has no place in any tree and ends with its descriptor.
func mountTop(device string) (int, error) {
	fs, err := unix.Fsopen("btrfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	for _, option := range [][2]string{{"source", device}, {"subvolid", "5"}} {
		if err := unix.FsconfigSetString(fs, option[0], option[1]); err != nil {
			return -1, fmt.Errorf("fsconfig %s=%s: %w", option[0], option[1], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("fsconfig create %s: %w", device, err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return -1, fmt.Errorf("fsmount %s: %w", device, err)
	}
	defer unix.Close(mount)
	// fsmount returns an O_PATH descriptor; open_by_handle_at(2) wants an ordinary one.
	top, err := unix.Openat(mount, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening the top level of %s: %w", device, err)
	}
	return top, nil
}
