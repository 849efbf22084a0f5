package lvm

import (
	"context"
	"fmt"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// A Volume is a logical volume as LVM told when it was asked.
type Volume struct {
	Group, Name, UUID string

	Size   int64  // bytes
	Type   string // of its first segment, such as "linear", "striped", "raid1", "thin" (lvs(8), segtype)
	Origin string // the volume of the same group of which it is a snapshot; empty: it is none
	Pool   string // the thin pool in which it lies; empty: it is not thin
	Tags   []string

	// Used is how full it is, in per cent: a classic snapshot of what was overwritten in its origin, a thin pool
	// or volume of data. UsedMetadata is that of a thin pool.
	Used, UsedMetadata float64
	Invalid            bool   // a classic snapshot that ran full: what is read from it is not to be believed
	Health             string // such as "out_of_data", "metadata_read_only", "failed"; empty: well

	Free, Extent int64 // bytes of the group that are not used, and in an extent, its unit

	major, minor int // of its device; -1: it is not active
}

// String is the volume as LVM's programs take it.
func (v Volume) String() string { return v.Group + "/" + v.Name }

// Device is the path of its block device.
func (v Volume) Device() string { return "/dev/" + v.String() }

// Thin reports whether its snapshots take their space from a pool.
func (v Volume) Thin() bool { return v.Type == "thin" }

// A NotVolumeError says that a file system does not lie on a logical volume.
type NotVolumeError struct{ Device string }

func (e *NotVolumeError) Error() string { return e.Device + " is not a logical volume" }

// Below returns the volume that holds a mounted file system, or a *NotVolumeError.
func Below(ctx context.Context, mount *mountinfo.Info) (Volume, error) {
	major, minor := mount.Major, mount.Minor
	if major == 0 { // btrfs has several devices, and a number of its own
		var st unix.Stat_t
		if err := unix.Stat(mount.Source, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
			return Volume{}, &NotVolumeError{Device: mount.Source}
		}
		major, minor = int(unix.Major(st.Rdev)), int(unix.Minor(st.Rdev))
	}
	all, err := volumes(ctx)
	if err != nil {
		return Volume{}, err
	}
	for _, v := range all {
		if v.major == major && v.minor == minor {
			return v, nil
		}
	}
	return Volume{}, &NotVolumeError{Device: mount.Source}
}

// volumes are all there are, hidden ones too.
func volumes(ctx context.Context) ([]Volume, error) {
	text, err := command(ctx, "lvs", "--all", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", fields)
	if err != nil {
		return nil, err
	}
	return parseReport(text)
}

// named finds a volume of a group by its name.
func named(all []Volume, group, name string) (Volume, error) {
	for _, v := range all {
		if v.Group == group && v.Name == name {
			return v, nil
		}
	}
	return Volume{}, fmt.Errorf("there is no logical volume %s/%s", group, name)
}
