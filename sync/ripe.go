package sync

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ripeAge is more than a tick of the clock by which kernels before 6.13 set the times of files: within
// one, two writes leave the same times, to the nanosecond.
const ripeAge = 20 * time.Millisecond

// coarseTimes reports whether this kernel's files have such times.
func coarseTimes() bool {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return true
	}
	return coarseKernel(unix.ByteSliceToString(name.Release[:]))
}

// coarseKernel reads a release such as "6.1.0-28-amd64"; one that cannot be read is taken for old.
func coarseKernel(release string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return true
	}
	return major < 6 || major == 6 && minor < 13
}
