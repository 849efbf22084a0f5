package writers

import (
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// unseen is what could not be looked at, by the reason.
type unseen map[string][]string

func (u unseen) add(what string, why error) {
	u[why.Error()] = append(u[why.Error()], what)
}

// words says it for people.
func (u unseen) words() (all []string) {
	for _, why := range slices.Sorted(maps.Keys(u)) {
		what := u[why][0]
		if more := len(u[why]) - 1; more > 0 {
			what = fmt.Sprintf("%s and %d more", what, more)
		}
		all = append(all, what+": "+why)
	}
	return all
}

// capable reports whether this process has a capability.
func capable(bit uint) (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, fmt.Errorf("capget: %w", err)
	}
	return data[bit/32].Effective&(1<<(bit%32)) != 0, nil
}

// contained reports whether this process is in a PID namespace that does not have all processes: the
// first one has a number of its own (PROC_PID_INIT_INO of include/linux/proc_ns.h).
func contained() (bool, error) {
	const first = 0xeffffffc
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return false, fmt.Errorf("looking at /proc: %w", err)
	}
	return st.Ino != first, nil
}
