package rsync

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Held returns a path by which the processes that this one starts reach a directory as it is open, whatever its own path
// leads to by now. A descriptor that they inherit would be lost in a program around rsync that closes what it does not know,
// and another directory in one that uses the same number. A program that runs rsync as a user without the right to trace
// this process cannot reach it (proc_pid_fd(5)).
func Held(dir *os.File) (string, error) {
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return "", fmt.Errorf("prctl: %w", err)
	}
	if dumpable != 1 {
		return "", errors.New("rsince's program file has capabilities or may not be read, which closes its /proc to rsync")
	}
	self, err := os.Readlink("/proc/self") // os.Getpid has another number where /proc is of another namespace
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%s/fd/%d", self, dir.Fd()), nil
}

// From is the engine with another directory as its source.
func (e *Engine) From(dir string) *Engine {
	other := *e
	other.Source, other.Held = dir, ""
	return &other
}

// hold makes cmd, which is to copy from Source, copy from Held. A target cannot be given so: rsync 3.5.0 reads
// where the link leads (open_no_attacker_symlinks), which is "/" for the root of what was unmounted by force.
func (e *Engine) hold(cmd *exec.Cmd) {
	if e.Held == "" {
		return
	}
	cmd.Args[len(cmd.Args)-2] = e.Held + "/"
}

// unheld puts Source into a line of rsync's where that names Held.
func (e *Engine) unheld(line string) string {
	if e.Held == "" {
		return line
	}
	held, source := `"`+e.Held, `"`+escape(strings.TrimSuffix(e.Source, "/"))
	return strings.NewReplacer(held+"/", source+"/", held+`"`, source+`"`).Replace(line)
}
