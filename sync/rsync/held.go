package rsync

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// heldSource is the path of SourceDir in rsync's processes, which inherit it behind Inherit.
func (e *Engine) heldSource() string {
	const firstInherited = 3 // os/exec.Cmd.ExtraFiles
	return fmt.Sprintf("/proc/self/fd/%d", firstInherited+len(e.Inherit))
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
	cmd.ExtraFiles = []*os.File{e.SourceDir}
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
