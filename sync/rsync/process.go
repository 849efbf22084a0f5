package rsync

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// grace is how long rsync gets between SIGTERM and SIGKILL: with SIGTERM it removes its temporary files.
const grace = 5 * time.Second

// run runs p, and again where another attempt does what the first could not.
func (e *Engine) run(ctx context.Context, p pass) (Result, error) {
	listed, groups := p.list, p.groups
	var total Result
	var halfDone []string
	for attempt := 1; ; attempt++ {
		rep, err := e.attempt(ctx, p)
		again := rep.again(&p, err, attempt) && ctx.Err() == nil
		total.Add(rep.Result)
		halfDone = append(halfDone, rep.halfDone...)
		if again {
			continue
		}
		switch {
		case p.list != nil && len(p.list) == 0: // each of its names is known to have failed, or has arrived
			err = nil
		case groups != nil && err == nil:
			total.fail(p.list, "left out because other names of the same file failed")
		case groups != nil && brokeOff(err):
			total.fail(p.list, err.Error())
			err = nil
		case err == nil && rep.noDeletions:
			total.fail(p.roots(), "nothing was deleted here because part of the source could not be read")
		}
		total.share(groups)
		total.Done = rep.entries
		if listed != nil {
			total.Done = total.arrived(listed)
		}
		if err == nil {
			var finished Result
			finished, err = e.finish(ctx, halfDone)
			total.Add(finished)
		}
		if err != nil || p.room == nil || !p.finds {
			return total, err
		}
		large, err := e.copyLarge(ctx, p)
		total.Add(large)
		return total, err
	}
}

// attempt runs one rsync to its end and that of all its processes.
func (e *Engine) attempt(ctx context.Context, p pass) (*report, error) {
	rep := newReport(e, p)
	if err := ctx.Err(); err != nil {
		return rep, err
	}
	if e.Met != nil {
		if err := e.Met(); err != nil {
			return rep, err
		}
	}
	args := e.arguments(p)
	rep.command = quote(append([]string{e.program()}, args...))
	cmd := exec.Command(e.program(), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Dir = "/"
	e.hold(cmd)
	if p.list != nil {
		cmd.Stdin = strings.NewReader(fileList(p.list, p.suffix))
	}
	stdout, stderr := &lineWriter{line: rep.output}, &lineWriter{line: rep.complaint}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	rep.log("+ " + rep.command)
	killed, err := e.process(ctx, cmd)
	stdout.close()
	stderr.close()
	rep.Killed = killed
	return rep, rep.verdict(err)
}

// process runs cmd to its end and that of all processes it started, and reports whether that took SIGKILL. The error is
// cmd's *exec.ExitError itself, or a *stall itself, only if nothing else went wrong.
func (e *Engine) process(ctx context.Context, cmd *exec.Cmd) (killed bool, err error) {
	cmd.ExtraFiles = e.Inherit
	// In a session of its own there is no terminal to ask for a password on and be stopped for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = grace // a connection that ssh keeps may hold the pipes open
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	group := processGroup(cmd.Process.Pid)
	priority := e.prioritize(group)
	if priority != nil {
		group.signal(unix.SIGTERM)
	}
	killed, err = e.watch(ctx, cmd, group)
	killedLater, endErr := group.end()
	killed = killed || killedLater
	if trouble := errors.Join(priority, endErr); trouble != nil {
		return killed, errors.Join(trouble, err)
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		return killed, nil // cmd itself has succeeded
	}
	return killed, err
}

// watch waits for cmd and ends its group when ctx does or nothing moves in it any more.
func (e *Engine) watch(ctx context.Context, cmd *exec.Cmd, group processGroup) (killed bool, err error) {
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	stalled := make(chan *stall, 1)
	stop := make(chan struct{})
	var watchdog sync.WaitGroup
	if e.Stall > 0 {
		watchdog.Go(func() {
			if s := group.stalled(e.Stall, stop); s != nil {
				stalled <- s
			}
		})
	}
	select {
	case err = <-exited:
	case <-ctx.Done():
		killed, err = group.interrupt(exited), ctx.Err()
	case s := <-stalled:
		killed, err = group.interrupt(exited), s
	}
	close(stop)
	watchdog.Wait()
	return killed, err
}

// prioritize gives the group its niceness and I/O class. rsync's children inherit both; the ones it
// may have by now are in the group.
func (e *Engine) prioritize(group processGroup) error {
	current, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return fmt.Errorf("reading the niceness: %w", err)
	}
	if nice := 20 - current; e.Nice > nice { // the system call returns 20 - nice
		err := unix.Setpriority(unix.PRIO_PGRP, int(group), e.Nice)
		if err != nil && err != unix.ESRCH {
			return fmt.Errorf("setting the niceness of rsync to %d: %w", e.Nice, err)
		}
	}
	class, ok := ioClasses[e.IO]
	if !ok {
		return fmt.Errorf("unknown I/O class %q", e.IO)
	}
	if class == 0 {
		return nil
	}
	_, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoPgrp, uintptr(group), class)
	if errno != 0 && errno != unix.ESRCH {
		return fmt.Errorf("setting the I/O class of rsync to %s: %w", e.IO, errno)
	}
	return nil
}

// From linux/ioprio.h: the class is in the bits from 13, its level below.
const ioprioWhoPgrp = 2

var ioClasses = map[string]uintptr{"": 0, "none": 0, "best-effort": 2<<13 | 4, "idle": 3 << 13}
