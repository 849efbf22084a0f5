package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// An Owner is a process that no other can be taken for: its id, when it started, and in which boot.
type Owner struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since the boot
	Boot  string `json:"boot"`
}

// Self returns this process as an owner.
func Self() (Owner, error) {
	boot, err := bootID()
	if err != nil {
		return Owner{}, err
	}
	pid := os.Getpid()
	p, err := stat(pid)
	if err != nil {
		return Owner{}, err
	}
	return Owner{PID: pid, Start: p.start, Boot: boot}, nil
}

// Ended returns why the owner cannot be running any more; empty while it is. An error means that it
// cannot be told.
func (o Owner) Ended() (why string, err error) {
	boot, err := bootID()
	if err != nil {
		return "", err
	}
	if o.Boot != boot {
		return "the machine went down during the run", nil
	}
	p, err := stat(o.PID)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return "", err
	case p.start == o.Start && !p.ended():
		return "", nil
	}
	return fmt.Sprintf("its process %d ended without saying how", o.PID), nil
}

// Dying reports whether the owner has ended but still holds its files: a thread of a killed process
// that is inside the kernel, in sync(2) for example, goes on to the end of that call.
func (o Owner) Dying() bool {
	boot, err := bootID()
	if err != nil || o.Boot != boot {
		return false
	}
	p, err := stat(o.PID)
	return err == nil && p.start == o.Start && p.ended() && p.threads > 1
}

// A process is what /proc/PID/stat tells of one, see proc_pid_stat(5).
type process struct {
	state   byte
	threads int
	start   uint64 // clock ticks since the boot
}

// ended reports whether its main thread has, and with it all that can be seen of it.
func (p process) ended() bool { return p.state == 'Z' || p.state == 'X' }

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(id)), err
}

// stat looks at a process; os.ErrNotExist says that there is none.
func stat(pid int) (process, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return process{}, err
	}
	if len(text) == 0 { // it ended between open and read
		return process{}, fmt.Errorf("reading %s: %w", path, os.ErrNotExist)
	}
	p, err := parseStat(text)
	if err != nil {
		return process{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return p, nil
}

// parseStat reads fields 3, 20 and 22. Field 2 is the program's name in parentheses, in which blanks and
// parentheses may be.
func parseStat(text []byte) (process, error) {
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return process{}, fmt.Errorf("%q is no process state", text)
	}
	threads, threadsErr := strconv.Atoi(string(fields[17]))
	start, startErr := strconv.ParseUint(string(fields[19]), 10, 64)
	return process{state: fields[0][0], threads: threads, start: start}, errors.Join(threadsErr, startErr)
}
