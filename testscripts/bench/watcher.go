package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// readyWithin is how long a watcher may take to be ready.
const readyWithin = 5 * time.Minute

// maxSaid is how much of what a program says goes into an error, in bytes.
const maxSaid = 2000

// A watcher is a program that watches the tree until it is ended.
type watcher struct {
	name string
	args []string
	// ready is part of the line in which it says that it watches.
	ready string
	// events says that standard output carries events, to be thrown away, and standard error the
	// messages; else the messages come on standard output.
	events bool
	// overflow is part of the line in which it says that it has lost events; empty: it says none.
	overflow string
}

// watching is a watcher that is ready. It must be stopped.
type watching struct {
	watcher
	reading reading // how long that took, and its memory then
	cmd     *exec.Cmd
	end     context.CancelFunc
	ended   chan struct{} // closed when it has said its last

	// These are not to be read before stop has returned.
	overflowed bool
	said       strings.Builder // the beginning of what it said after it was ready
	complaints bytes.Buffer    // what it said on standard error, unless that is where it said all
}

// start starts the program and returns when it is ready.
func (w watcher) start(parent context.Context) (*watching, error) {
	if _, err := exec.LookPath(w.args[0]); err != nil {
		return nil, errMissing
	}
	ctx, end := context.WithCancel(parent)
	running := &watching{watcher: w, cmd: command(ctx, w.args...), end: end, ended: make(chan struct{})}
	messages, err := running.connect()
	if err != nil {
		end()
		return nil, err
	}
	start := time.Now()
	if err := running.cmd.Start(); err != nil {
		end()
		return nil, err
	}
	late := time.AfterFunc(readyWithin, end)
	lines := bufio.NewScanner(messages)
	before, ready := readUntil(lines, w.ready)
	running.reading.seconds = time.Since(start).Seconds()
	late.Stop()
	if !ready {
		end()
		err := running.cmd.Wait()
		return nil, errors.Join(fmt.Errorf("%s ended without being ready: %s%s", w.name, before, &running.complaints), err)
	}
	running.reading.resident, err = running.memory()
	go running.listen(lines)
	if err != nil {
		return nil, errors.Join(err, running.stop(parent))
	}
	return running, nil
}

func (w *watching) connect() (messages io.Reader, err error) {
	if w.events {
		return w.cmd.StderrPipe()
	}
	w.cmd.Stderr = &w.complaints
	return w.cmd.StdoutPipe()
}

// readUntil returns the lines before the one that holds text, and whether that came.
func readUntil(lines *bufio.Scanner, text string) (before string, ok bool) {
	var said strings.Builder
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return said.String(), true
		}
		fmt.Fprintln(&said, lines.Text())
	}
	return said.String(), false
}

// listen reads on, so that the program never waits for a reader.
func (w *watching) listen(lines *bufio.Scanner) {
	defer close(w.ended)
	for lines.Scan() {
		if w.overflow != "" && strings.Contains(lines.Text(), w.overflow) {
			w.overflowed = true
		}
		if w.said.Len() < maxSaid {
			fmt.Fprintln(&w.said, lines.Text())
		}
	}
}

// stop ends the watcher. That it ended before, and not because ctx did, is an error.
func (w *watching) stop(ctx context.Context) error {
	var early bool
	select {
	case <-w.ended:
		early = ctx.Err() == nil
	default:
	}
	w.end()
	<-w.ended
	_ = w.cmd.Wait() // ended by a signal, some say so in their exit code and some do not
	if early {
		return fmt.Errorf("%s ended by itself: %s%s", w.name, &w.said, &w.complaints)
	}
	return nil
}

// memory returns what the process has resident, in megabytes: VmRSS of proc_pid_status(5), which
// counts in units of 1,024 bytes.
func (w *watching) memory() (megabytes float64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kib); err == nil {
			return kib * 1024 / 1e6, nil
		}
	}
	return 0, fmt.Errorf("%s has no VmRSS", w.name)
}
