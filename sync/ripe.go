package sync

import "time"

// ripeAge is more than a tick of the clock by which kernels before 6.13 set the times of files: within
// one, two writes leave the same times, to the nanosecond.
const ripeAge = 20 * time.Millisecond

// coarseTimes reports whether this kernel's files have such times.
func coarseTimes() bool { return kernelBefore(6, 13) }
