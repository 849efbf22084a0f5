package sync

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rsince/logs"
	"rsince/sync/profile"
)

// A Holder is the run that has a target locked.
type Holder struct {
	Owner   logs.Owner `json:"owner"`
	Profile string     `json:"profile"`
	Target  string     `json:"target"`
	Since   time.Time  `json:"since"`
}

// A LockedError says that another run holds the target, or one that contains it or lies in it.
type LockedError struct{ Holder Holder }

func (e *LockedError) Error() string {
	h := e.Holder
	if h == (Holder{}) {
		return "another run holds the target"
	}
	return fmt.Sprintf("the run of %s holds %s (process %d, since %s)", h.Profile, h.Target, h.Owner.PID, h.Since.Format(time.DateTime))
}

// targetLock keeps every other run away from a target and from what contains it or lies in it:
// there is one lock file for each directory on the way, locked shared, and one for the target,
// locked exclusively. Whoever inherits the files keeps them locked.
type targetLock struct{ files []*os.File }

func (l *targetLock) release() error {
	var errs []error
	for _, f := range l.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// lockTarget waits until wait has passed, ends what a dead run left running on the target, and
// returns a *LockedError if a living run holds it.
func lockTarget(ctx context.Context, dir string, target profile.Target, name string, wait time.Duration) (*targetLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(wait)
	for {
		lock, err := tryLock(dir, target, name)
		var locked *LockedError
		if !errors.As(err, &locked) {
			return lock, err
		}
		if ended, endErr := endOrphans(ctx, dir, locked.Holder); ended || endErr != nil {
			if endErr != nil {
				return nil, endErr
			}
			continue
		}
		if !time.Now().Before(deadline) {
			return nil, err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func tryLock(dir string, target profile.Target, name string) (*targetLock, error) {
	lock := &targetLock{}
	ways := waysTo(target)
	for i, way := range ways {
		how := unix.LOCK_SH
		if i == len(ways)-1 {
			how = unix.LOCK_EX
		}
		f, err := os.OpenFile(lockPath(dir, way), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, errors.Join(err, lock.release())
		}
		lock.files = append(lock.files, f)
		if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(&LockedError{holderOf(dir, ways, way)}, lock.release())
		} else if err != nil {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", f.Name(), err), lock.release())
		}
	}
	if err := sign(lock.files[len(ways)-1], name, target); err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return lock, nil
}

// waysTo gives the target's own key last, before it those of all directories that contain it.
func waysTo(target profile.Target) []string {
	root := target.Host + ":"
	if target.Daemon {
		root = fmt.Sprintf("rsync://%s:%d/", target.Host, target.Port)
	}
	path := target.Path
	if target.Local() {
		path = resolved(path)
	}
	ways := []string{root + "/"}
	at := ""
	for name := range strings.SplitSeq(strings.Trim(filepath.Clean(path), "/"), "/") {
		if name != "" {
			at += "/" + name
			ways = append(ways, root+at)
		}
	}
	return ways
}

// resolved follows symlinks as far as path exists.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if path == "/" {
		return path
	}
	return filepath.Join(resolved(filepath.Dir(path)), filepath.Base(path))
}

func lockPath(dir, way string) string {
	sum := sha256.Sum256([]byte(way))
	return filepath.Join(dir, hex.EncodeToString(sum[:12])+".lock")
}

func sign(f *os.File, name string, target profile.Target) error {
	self, err := logs.Self()
	if err != nil {
		return err
	}
	h := Holder{Owner: self, Profile: name, Target: target.String(), Since: time.Now().Round(0)}
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(append(data, '\n'), 0)
	return err
}

// holderOf finds who stands in the way: for a directory above the target, the run that has it as
// target; for the target itself also a run with a target below.
func holderOf(dir string, ways []string, way string) Holder {
	if h, ok := signature(lockPath(dir, way)); ok && way != ways[len(ways)-1] {
		return h
	} else if ok && !vacant(lockPath(dir, way), unix.LOCK_SH) {
		return h
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.lock"))
	for _, file := range files {
		h, ok := signature(file)
		below := ok && strings.HasPrefix(targetWay(h.Target), strings.TrimSuffix(way, "/")+"/")
		if below && !vacant(file, unix.LOCK_SH) {
			return h
		}
	}
	return Holder{}
}

// targetWay is the key of a target as it is written in a profile.
func targetWay(target string) string {
	t, err := profile.ParseTarget(target)
	if err != nil {
		return ""
	}
	ways := waysTo(t)
	return ways[len(ways)-1]
}

// vacant reports whether the lock could be had just now.
func vacant(file string, how int) bool {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return true
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), how|unix.LOCK_NB) == nil
}

func signature(file string) (Holder, bool) {
	var h Holder
	data, err := os.ReadFile(file)
	return h, err == nil && json.Unmarshal(data, &h) == nil && h.Target != ""
}

// orphanGrace is how long an rsync without a parent may take to end when asked to.
const orphanGrace = 5 * time.Second

// endOrphans ends the processes that keep a dead run's target locked: an rsync that goes on by
// itself would put old data back after a newer run. It reports whether there was such a run.
func endOrphans(ctx context.Context, dir string, h Holder) (bool, error) {
	if h == (Holder{}) {
		return false, nil
	}
	if dead, err := h.Owner.Ended(); dead == "" || err != nil {
		return false, err
	}
	path := lockPath(dir, targetWay(h.Target))
	for signal, deadline := unix.SIGTERM, time.Now().Add(orphanGrace); ; {
		pids := openers(path)
		if now, _ := signature(path); len(pids) == 0 || now != h {
			return true, nil
		}
		if time.Now().After(deadline) {
			if signal == unix.SIGKILL {
				return false, fmt.Errorf("processes %v, left by a run that died, hold %s and cannot be ended", pids, h.Target)
			}
			signal, deadline = unix.SIGKILL, time.Now().Add(orphanGrace)
		}
		for _, pid := range pids {
			unix.Kill(pid, signal)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return false, err
		}
	}
}

// openers lists the processes that have the file open, except rsinces, which look at locks too.
func openers(file string) []int {
	self := program("self")
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	var pids []int
	for _, fd := range fds {
		if open, _ := os.Readlink(fd); open != file {
			continue
		}
		proc, _, _ := strings.Cut(strings.TrimPrefix(fd, "/proc/"), "/")
		pid, err := strconv.Atoi(proc)
		if err == nil && program(proc) != self && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// program gives the path of a process's program, the same after an upgrade has replaced the file.
func program(proc string) string {
	exe, _ := os.Readlink("/proc/" + proc + "/exe")
	return strings.TrimSuffix(exe, " (deleted)")
}

// pause waits for d or until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
