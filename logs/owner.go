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
	// Where /proc is that of another namespace, os.Getpid is another process there.
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return Owner{}, err
	}
	pid, err := strconv.Atoi(self)
	if err != nil {
		return Owner{}, err
	}
	_, start, err := stat(pid)
	if err != nil {
		return Owner{}, err
	}
	return Owner{PID: pid, Start: start, Boot: boot}, nil
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
	state, start, err := stat(o.PID)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return "", err
	case start == o.Start && state != 'Z' && state != 'X':
		return "", nil
	}
	return fmt.Sprintf("its process %d ended without saying how", o.PID), nil
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(id)), err
}

// stat returns the state and the start time of a process; os.ErrNotExist says that there is none.
func stat(pid int) (state byte, start uint64, err error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	if len(text) == 0 { // it ended between open and read
		return 0, 0, fmt.Errorf("reading %s: %w", path, os.ErrNotExist)
	}
	state, start, err = parseStat(text)
	if err != nil {
		return 0, 0, fmt.Errorf("reading %s: %w", path, err)
	}
	return state, start, nil
}

// parseStat reads fields 3 and 22 of /proc/PID/stat, see proc_pid_stat(5). Field 2 is the program's
// name in parentheses, in which blanks and parentheses may be.
func parseStat(text []byte) (state byte, start uint64, err error) {
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return 0, 0, fmt.Errorf("%q is no process state", text)
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return fields[0][0], start, err
}
