package rsync

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// heldSource is the path of SourceDir, for this process and those it starts. One that they inherit would be lost in a
// program around rsync that closes what it does not know, and another directory in one that uses the same number. A program
// that runs rsync as a user without the right to trace this process cannot reach it (proc_pid_fd(5)).
func (e *Engine) heldSource() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), e.SourceDir.Fd())
}

// From is the engine with another directory as its source.
func (e *Engine) From(dir string) *Engine {
	other := *e
	other.Source, other.SourceDir = dir, nil
	return &other
}

// hold makes cmd, which is to copy from Source, copy from SourceDir. A target cannot be given so: rsync 3.5.0 reads
// where the link leads (open_no_attacker_symlinks), which is "/" for the root of what was unmounted by force.
func (e *Engine) hold(cmd *exec.Cmd) {
	if e.SourceDir == nil {
		return
	}
	cmd.Args[len(cmd.Args)-2] = e.heldSource() + "/"
}

// unheld puts Source into a line of rsync's where that names SourceDir.
func (e *Engine) unheld(line string) string {
	if e.SourceDir == nil {
		return line
	}
	held, source := `"`+e.heldSource(), `"`+escape(strings.TrimSuffix(e.Source, "/"))
	return strings.NewReplacer(held+"/", source+"/", held+`"`, source+`"`).Replace(line)
}
