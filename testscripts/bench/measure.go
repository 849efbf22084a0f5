package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A contest is a task and those who do it. Each round prepares once, then lets every contender run,
// another one first each time, so that neither the cache nor the load of the machine favours one.
type contest struct {
	task       string
	prepare    func(ctx context.Context) error // nil: nothing to prepare
	contenders []contender
}

// A contender is one way to do the task.
type contender struct {
	name string
	run  func(ctx context.Context) (reading, error)
}

// A reading is what one run of a contender gave.
type reading struct {
	seconds  float64
	resident float64 // megabytes, when it is ready
	pending  float64 // megabytes resident, with its list filled
	remark   string  // what a reader must know of this run
}

// A series is all readings of one contender.
type series struct {
	name     string
	readings []reading
	err      error // why there are no more
}

// errMissing marks a peer that this machine does not have.
var errMissing = errors.New("not installed")

// hold runs the contest in dir and returns a series for each contender. One that fails takes no
// further part.
func (c contest) hold(ctx context.Context, dir string, rounds int) ([]*series, error) {
	all := make([]*series, len(c.contenders))
	for i := range all {
		all[i] = &series{name: c.contenders[i].name}
	}
	for round := range rounds {
		progress("%s: round %d of %d", c.task, round+1, rounds)
		if c.prepare != nil {
			if err := c.prepare(ctx); err != nil {
				return all, fmt.Errorf("%s: %w", c.task, err)
			}
		}
		for i := range all {
			turn := (i + round) % len(all)
			if err := all[turn].take(ctx, dir, c.contenders[turn]); err != nil {
				return all, err
			}
		}
	}
	return all, nil
}

// take adds one reading. Its error is one that concerns all contenders.
func (s *series) take(ctx context.Context, dir string, c contender) error {
	if s.err != nil {
		return nil
	}
	if err := settle(dir); err != nil {
		return err
	}
	r, err := c.run(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		s.err = err
		return nil
	}
	s.readings = append(s.readings, r)
	return nil
}

// settle writes out what is dirty on dir's file system, so that nobody pays for what was written
// before his turn.
func settle(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		err = fmt.Errorf("syncing the file system of %s: %w", dir, err)
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// timed runs commands one after the other and returns the time from the start of the first to the
// end of the last, and what they wrote to standard output.
func timed(ctx context.Context, commands ...[]string) (seconds float64, out []byte, err error) {
	start := time.Now()
	for _, args := range commands {
		one, err := output(ctx, args...)
		if err != nil {
			return 0, nil, err
		}
		out = append(out, one...)
	}
	return time.Since(start).Seconds(), out, nil
}

// output runs a program to its end. When it fails, the error holds what it said.
func output(ctx context.Context, args ...string) ([]byte, error) {
	cmd := command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// command is ended by SIGTERM, since an rsync or a watcher that is killed leaves things behind; only
// one that does not heed it is killed.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// remarks are those of all readings, each once.
func (s *series) remarks() []string {
	var all []string
	for _, r := range s.readings {
		if r.remark != "" && !slices.Contains(all, r.remark) {
			all = append(all, r.remark)
		}
	}
	return all
}
