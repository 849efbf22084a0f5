package rsync

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrStalled is returned when an rsync made no progress for Engine.Stall and was ended.
var ErrStalled = errors.New("rsync made no progress")

// A stall is how an rsync was found that had to be ended.
type stall struct {
	after time.Duration // without progress
	path  string        // that one of its processes was waiting for, absolute; empty if it is not known
	// fifo: the path has led to one, and not when rsync listed it. It waits there for ever.
	fifo bool
}

func (s *stall) Error() string {
	switch {
	case s.fifo:
		return fmt.Sprintf("%v: %s became a fifo", ErrStalled, s.path)
	case s.path != "":
		return fmt.Sprintf("%v for %v and was ended; it was waiting for %s", ErrStalled, s.after.Round(time.Second), s.path)
	}
	return fmt.Sprintf("%v for %v and was ended", ErrStalled, s.after.Round(time.Second))
}

func (s *stall) Unwrap() error { return ErrStalled }

// lookAt sees what a process of the stalled rsync is in the middle of.
func (s *stall) lookAt(pid int) {
	path := waitsFor(pid)
	if path == "" {
		return
	}
	var st unix.Stat_t
	isFifo := unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
	// The name may be another file's by now; so that is where the kernel waits for a fifo's other end.
	where, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid))
	s.path, s.fifo = path, isFifo || string(where) == "wait_for_partner"
}

// waitsFor returns the absolute path of the file that a process is in the middle of opening or reading;
// empty if it does neither, or if that cannot be seen.
func waitsFor(pid int) string {
	proc := fmt.Sprintf("/proc/%d", pid)
	text, err := os.ReadFile(proc + "/syscall")
	if err != nil {
		return ""
	}
	number, args, ok := parseSyscall(string(text))
	if !ok {
		return ""
	}
	var path string
	switch number {
	case unix.SYS_OPENAT, unix.SYS_OPENAT2:
		if path = stringIn(proc, args[1]); path == "" || filepath.IsAbs(path) {
			break
		}
		dir := fmt.Sprintf("%s/fd/%d", proc, int32(args[0]))
		if int32(args[0]) == unix.AT_FDCWD {
			dir = proc + "/cwd"
		}
		if dir, err = os.Readlink(dir); err != nil {
			return ""
		}
		path = filepath.Join(dir, path)
	case unix.SYS_READ:
		path, _ = os.Readlink(fmt.Sprintf("%s/fd/%d", proc, args[0])) // of a pipe, it is "pipe:[1234]"
	}
	if !filepath.IsAbs(path) {
		return ""
	}
	return path
}

// parseSyscall reads /proc/PID/syscall (proc_pid_syscall(5)): the number of the system call that the
// process is blocked in, its six arguments, and two registers; "running" if it is not blocked.
func parseSyscall(text string) (number int, args [6]uint64, ok bool) {
	fields := strings.Fields(text)
	if len(fields) < 1+len(args) {
		return 0, args, false
	}
	number, err := strconv.Atoi(fields[0])
	for i := range args {
		var argErr error
		args[i], argErr = strconv.ParseUint(fields[1+i], 0, 64)
		err = errors.Join(err, argErr)
	}
	return number, args, err == nil
}

// stringIn reads a string that ends with a zero byte from a process's memory.
func stringIn(proc string, address uint64) string {
	mem, err := os.Open(proc + "/mem")
	if err != nil {
		return ""
	}
	defer mem.Close()
	buf := make([]byte, unix.PathMax)
	n, _ := mem.ReadAt(buf, int64(address)) // it may end at the end of a mapping
	s, _, ended := bytes.Cut(buf[:n], []byte{0})
	if !ended {
		return ""
	}
	return string(s)
}
