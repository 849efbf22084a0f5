package rsync

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// onItsMount reports whether a name on the target, which may be yet to be made, is of the target's own mount and not of one
// inside it. On another machine that is not known, and every name is.
func (e *Engine) onItsMount(name string) bool {
	if remote(e.Target) {
		return true
	}
	own, err := mountOf(e.Target + "/.")
	for ; err == nil && name != "."; name = filepath.Dir(name) {
		if id, err := mountOf(filepath.Join(e.Target, name)); err == nil {
			return id == own
		}
	}
	return true
}

// A mountID tells two mounts apart: by their numbers or, before Linux 5.8, which does not tell, by their devices.
type mountID struct{ number, device uint64 }

func mountOf(path string) (mountID, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st); err != nil {
		return mountID{}, err
	}
	if st.Mask&unix.STATX_MNT_ID != 0 {
		return mountID{number: st.Mnt_id}, nil
	}
	return mountID{device: unix.Mkdev(st.Dev_major, st.Dev_minor)}, nil
}
