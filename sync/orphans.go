package sync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// orphanGrace is how long an rsync without a parent may take to end when asked to: with SIGTERM it
// removes its temporary files.
const orphanGrace = 5 * time.Second

// endOrphans ends the processes that keep a dead run's target locked: an rsync that goes on by
// itself would put old data back after a newer run. It returns when they are gone. dead says that
// the lock was signed by a run that is dead, or by none; ended, that there were such processes.
func endOrphans(ctx context.Context, dir string, locked *LockedError) (dead, ended bool, err error) {
	h, file := locked.Holder, locked.file
	if h != (Holder{}) {
		if why, err := h.Owner.Ended(); why == "" || err != nil {
			return false, false, err
		}
		file = lockPath(dir, targetWay(h.Target))
	}
	signals := []unix.Signal{unix.SIGTERM, unix.SIGKILL}
	for since := (time.Time{}); ; {
		heirs := heirsOf(file)
		// Who signs first has no heirs yet; so these are the dead run's if the signature still is.
		if len(heirs) == 0 || signature(file) != h {
			return true, ended, nil
		}
		if h == (Holder{}) && slices.ContainsFunc(slices.Collect(maps.Values(heirs)), isProcess) {
			return true, ended, nil
		}
		ended = true
		if time.Since(since) > orphanGrace {
			if len(signals) == 0 {
				pids := slices.Sorted(maps.Keys(heirs))
				return true, true, fmt.Errorf("processes %v, left by a run that died, hold the target and cannot be ended", pids)
			}
			for pid := range heirs {
				_ = unix.Kill(pid, signals[0]) // who is left is seen in the next round
			}
			signals, since = signals[1:], time.Now()
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return true, true, err
		}
	}
}

func isProcess(pid int) bool { return pid > 0 && !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

// heirsOf lists the processes that hold an exclusive lock on file which another process took, and
// that one. Those that only have it open, because they wait for it, are not among them.
func heirsOf(file string) map[int]int {
	heirs := map[int]int{}
	want, err := os.Stat(file)
	if err != nil {
		return heirs
	}
	infos, _ := filepath.Glob("/proc/[0-9]*/fdinfo/*") // its only error is a wrong pattern
	for _, info := range infos {
		text, err := os.ReadFile(info)
		if err != nil {
			continue // closed meanwhile, or not ours to see
		}
		taker, ok := exclusiveTaker(string(text))
		proc, fd, _ := strings.Cut(strings.TrimPrefix(info, "/proc/"), "/fdinfo/")
		pid, err := strconv.Atoi(proc)
		if !ok || err != nil || taker == pid || heirs[pid] != 0 {
			continue
		}
		if open, err := os.Stat("/proc/" + proc + "/fd/" + fd); err == nil && os.SameFile(open, want) {
			heirs[pid] = taker
		}
	}
	return heirs
}

// exclusiveTaker reads in /proc/PID/fdinfo/FD which process took an exclusive flock on this open
// file (proc_pid_fdinfo(5)): "lock:	1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF". In a process
// namespace a dead one is 0.
func exclusiveTaker(fdinfo string) (pid int, ok bool) {
	for line := range strings.Lines(fdinfo) {
		f := strings.Fields(line)
		if len(f) >= 6 && f[0] == "lock:" && f[2] == "FLOCK" && f[4] == "WRITE" {
			pid, err := strconv.Atoi(f[5])
			return pid, err == nil
		}
	}
	return 0, false
}
