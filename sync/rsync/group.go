package rsync

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A processGroup is the group of one rsync: its own three processes and ssh. Its number stays taken
// as long as one of them lives.
type processGroup int

// interrupt ends the group, SIGTERM first, waits for its first process, and reports whether it took SIGKILL.
func (g processGroup) interrupt(exited <-chan error) (killed bool) {
	g.signal(unix.SIGTERM)
	g.signal(unix.SIGCONT)
	select {
	case <-exited:
		return false
	case <-time.After(grace):
		g.signal(unix.SIGKILL)
		<-exited
		return true
	}
}

// end waits until no process of the group is left, sees to it, and reports whether it took SIGKILL: a receiver that
// outlived its sender would put old data back after a newer run.
func (g processGroup) end() (killed bool, err error) {
	start := time.Now()
	signals := []unix.Signal{unix.SIGTERM, unix.SIGKILL}
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if len(g.processes()) == 0 {
			return killed, nil
		}
		waited := time.Since(start)
		if len(signals) > 0 && waited > time.Duration(3-len(signals))*grace/2 {
			g.signal(signals[0])
			signals = signals[1:]
			killed = len(signals) == 0
		}
		if waited > 4*grace {
			return killed, fmt.Errorf("processes of rsync %d cannot be ended", int(g))
		}
		time.Sleep(pause)
	}
}

func (g processGroup) signal(s unix.Signal) {
	// ESRCH is what is wanted; EPERM cannot be for our own children.
	_ = unix.Kill(-int(g), s)
}

// stalled returns what it found when nothing has moved in the group for limit, or can move any more;
// nil when stop is closed.
func (g processGroup) stalled(limit time.Duration, stop <-chan struct{}) *stall {
	tick := time.NewTicker(min(max(limit/20, 20*time.Millisecond), 5*time.Second))
	defer tick.Stop()
	mark, since := g.processes(), time.Now()
	seen := &stall{} // since then: a process that waits is not in a system call at every moment
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		now := g.processes()
		if moved(mark, now, time.Since(since)) {
			mark, since, seen = now, time.Now(), &stall{}
			continue
		}
		for pid := range now {
			seen.lookAt(pid)
		}
		if seen.after = time.Since(since); seen.fifo || seen.after >= limit {
			return seen
		}
	}
}

// A process is what /proc tells of one.
type process struct {
	group int
	state byte
	start uint64 // clock ticks since boot: tells two processes of one number apart
	cpu   uint64 // clock ticks, user and system; one is 10 ms
	bytes uint64 // read and written
}

// moved reports whether the processes did more in this time than idle ones do.
func moved(before, after map[int]process, elapsed time.Duration) bool {
	if len(before) != len(after) {
		return true
	}
	// A hung rsync -H was seen to make not one system call in two minutes; poll(2) may wake it once a
	// minute. ssh's keepalives are some tens of bytes every few seconds.
	ticks := 1 + uint64(elapsed/time.Minute)
	bytes := 32 * uint64(elapsed/time.Second)
	for pid, now := range after {
		was, ok := before[pid]
		if !ok || was.start != now.start || now.bytes > was.bytes+bytes || now.cpu > was.cpu+ticks {
			return true
		}
	}
	return false
}

// processes returns the living processes of the group by number.
func (g processGroup) processes() map[int]process {
	found := map[int]process{}
	if errors.Is(unix.Kill(-int(g), 0), unix.ESRCH) {
		return found
	}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // its only error is a wrong pattern
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // gone meanwhile
		}
		p, ok := parseStat(string(stat))
		if !ok || p.group != int(g) || p.state == 'Z' || p.state == 'X' {
			continue
		}
		dir := filepath.Dir(name)
		if io, err := os.ReadFile(filepath.Join(dir, "io")); err == nil {
			p.bytes = parseIO(string(io))
		}
		pid, _ := strconv.Atoi(filepath.Base(dir)) // the pattern leaves numbers only
		found[pid] = p
	}
	return found
}

// parseStat reads /proc/PID/stat, see proc_pid_stat(5). The name in the second field may hold
// anything, so fields are counted from the last parenthesis.
func parseStat(stat string) (process, bool) {
	end := strings.LastIndexByte(stat, ')')
	if end < 0 {
		return process{}, false
	}
	fields := strings.Fields(stat[end+1:]) // the first one is field 3
	if len(fields) < 20 || len(fields[0]) != 1 {
		return process{}, false
	}
	number := func(field int) uint64 {
		n, err := strconv.ParseUint(fields[field-3], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	return process{
		state: fields[0][0],
		group: int(number(5)),
		cpu:   number(14) + number(15),
		start: number(22),
	}, true
}

// parseIO adds the bytes read and written through system calls in /proc/PID/io, see proc_pid_io(5).
func parseIO(io string) uint64 {
	var sum uint64
	for line := range strings.Lines(io) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if name != "rchar" && name != "wchar" {
			continue
		}
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			sum += n
		}
	}
	return sum
}
