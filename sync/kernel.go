package sync

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// kernelBefore reports whether this kernel is older than a version of Linux, or does not tell.
func kernelBefore(major, minor int) bool {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return true
	}
	return releaseBefore(unix.ByteSliceToString(name.Release[:]), major, minor)
}

// releaseBefore reads a release such as "6.1.0-28-amd64"; one that cannot be read is taken for old.
func releaseBefore(release string, major, minor int) bool {
	var is, point int
	if _, err := fmt.Sscanf(release, "%d.%d", &is, &point); err != nil {
		return true
	}
	return is < major || is == major && point < minor
}
