// Package lvm makes snapshots of logical volumes, shows what is in them, and removes them again.
//
//	mount ─▶ Below: the volume it is on ─▶ Take: a Snapshot ─▶ Open: its files ─▶ Close ─▶ Remove
//
// It works by the programs of lvm2. Snapshots carry tags that say which run made them; Taken lists them, also
// those of a run that died.
package lvm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// command runs one of LVM's programs and returns what it printed.
//
// It is never killed: a volume whose snapshot is being made is suspended, and would stay so. Asked by SIGINT it ends as
// soon as it can (lvm(8) holds signals back in its critical sections); for that the terminal's own has to pass it by.
func command(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGINT) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1")
	cmd.Dir = "/"
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &ProgramError{Program: name, Said: said(stderr.String()), Err: err}
	}
	return stdout.Bytes(), nil
}

// A ProgramError is the failure of one of the programs.
type ProgramError struct {
	Program string
	Said    string // what it wrote to its standard error, in one line
	Err     error
}

func (e *ProgramError) Error() string {
	if e.Said == "" {
		return fmt.Sprintf("%s: %v", e.Program, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Program, e.Said)
}

func (e *ProgramError) Unwrap() error { return e.Err }

// said is the text of a program in one line, without its warnings if there is something else.
func said(text string) string {
	var lines, warnings []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case strings.HasPrefix(line, "WARNING:"):
			warnings = append(warnings, line)
		default:
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		lines = warnings
	}
	return strings.Join(lines, "; ")
}
