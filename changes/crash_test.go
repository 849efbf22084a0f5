package changes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childEnv makes the test binary one of children instead, working on a directory.
const childEnv = "RSINCE_CHANGES_TEST_CHILD"

var children = map[string]func(dir string) error{
	"work":        workForever,
	"cycle":       oneCycle,
	"acknowledge": acknowledgeLast,
	"mend":        func(dir string) error { _, err := Open(dir); return err },
	"ask":         askAsChild,
}

func TestMain(m *testing.M) {
	name, dir, ok := strings.Cut(os.Getenv(childEnv), ":")
	if !ok {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // for strace, which counts by thread
	if err := children[name](dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func childCommand(t *testing.T, name, dir string, wrapper ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	do(t, err)
	args := append(wrapper, self)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), childEnv+"="+name+":"+dir)
	return cmd
}

// workForever records, flushes, cuts and acknowledges. Before it lets go of a path, and after one is
// said to be durable, it says so.
func workForever(dir string) error {
	j, err := Open(dir)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		path := fmt.Sprintf("%d-%d", os.Getpid(), i)
		j.Record(path, Content)
		if rand.IntN(10) == 0 {
			j.rewrite = true
		}
		if err := j.Flush(); err != nil {
			return err
		}
		fmt.Println("durable", path)
		if rand.IntN(5) > 0 {
			continue
		}
		id, err := j.cut()
		if err != nil {
			return err
		}
		batch, err := load(dir, id)
		if err != nil {
			return err
		}
		if err := letGo(batch); err != nil {
			return err
		}
	}
}

// letGo acknowledges a batch but for its first change, and one time in three returns it.
func letGo(batch *Batch) error {
	if len(batch.Gaps) > 0 {
		return fmt.Errorf("gaps %v", batch.Gaps)
	}
	if rand.IntN(3) == 0 {
		return batch.Return()
	}
	for _, c := range batch.Changes[1:] {
		fmt.Println("copied", c.Path)
	}
	batch.Changes[0].Attempts++
	batch.Watch.Backend = "fake"
	return batch.Acknowledge(batch.Changes[:1])
}

// TestKilled kills a writer again and again: what was durable, and was not let go of, is there.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	durable := map[string]bool{}
	for range 60 {
		killed(t, childCommand(t, "work", dir), durable)
		changes, _, err := Pending(dir)
		do(t, err)
		left := maps.Clone(durable)
		for _, c := range changes {
			delete(left, c.Path)
		}
		if len(left) > 0 {
			t.Fatalf("%d of %d durable paths are gone: %q", len(left), len(durable), slices.Collect(maps.Keys(left))[0])
		}
	}
	if len(durable) == 0 {
		t.Error("nothing was ever durable")
	}
	j := open(t, dir)
	if b := cutOf(t, j); slices.ContainsFunc(b.Gaps, func(g Gap) bool { return strings.Contains(g.Reason, "no end") }) {
		t.Errorf("gaps %v", b.Gaps)
	}
}

func killed(t *testing.T, cmd *exec.Cmd, durable map[string]bool) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	do(t, err)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	do(t, cmd.Start())
	first, lines := true, bufio.NewScanner(out)
	for lines.Scan() {
		if first { // it is up and running
			first = false
			time.AfterFunc(time.Duration(rand.IntN(30_000))*time.Microsecond, func() { cmd.Process.Kill() })
		}
		switch what, path, _ := strings.Cut(lines.Text(), " "); what {
		case "durable":
			durable[path] = true
		case "copied":
			delete(durable, path)
		}
	}
	_ = cmd.Wait() // killed
	if complaint.Len() > 0 {
		t.Fatalf("the writer says: %s", complaint.String())
	}
}

// oneCycle does each thing once that changes the directory.
func oneCycle(dir string) error {
	j, err := Open(dir)
	if err != nil {
		return err
	}
	j.Record("new", Content)
	if err := j.Beat(time.Now()); err != nil {
		return err
	}
	j.Record("newer", Content)
	j.rewrite = true
	if err := j.Flush(); err != nil {
		return err
	}
	if _, err = j.cut(); err != nil {
		return err
	}
	return j.Close()
}

// acknowledgeLast acknowledges the current batch and carries one change.
func acknowledgeLast(dir string) error {
	id, err := os.ReadFile(filepath.Join(dir, "id"))
	if err != nil {
		return err
	}
	batch, err := load(dir, string(id))
	if err != nil {
		return err
	}
	failed := batch.Changes[0]
	failed.Attempts = 1
	return batch.Acknowledge([]Change{failed})
}

// TestKilledAtEachStep kills an operation at its first, second, third… system call that changes
// something.
func TestKilledAtEachStep(t *testing.T) {
	tests := []struct {
		name  string
		child string
		make  func(t *testing.T, dir string)
		check func(t *testing.T, changes []Change, gaps []Gap)
	}{
		{"cut", "cycle", makeOld, func(t *testing.T, changes []Change, gaps []Gap) {
			if !slices.Contains(pathsOf(changes), "old") {
				t.Errorf("pending %q", pathsOf(changes))
			}
		}},
		{"acknowledge", "acknowledge", makeBatch, func(t *testing.T, changes []Change, gaps []Gap) {
			paths := pathsOf(changes)
			if !slices.Contains(paths, "carried") || !slices.Contains(paths, "later") {
				t.Errorf("pending %q", paths)
			}
		}},
		{"mend", "mend", makeDamaged, func(t *testing.T, changes []Change, gaps []Gap) {
			if !slices.Contains(pathsOf(changes), "old") || !slices.ContainsFunc(gaps, func(g Gap) bool { return g.Since.IsZero() }) {
				t.Errorf("pending %q, gaps %v", pathsOf(changes), gaps)
			}
		}},
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			whole := t.TempDir()
			tt.make(t, whole)
			steps := stepsOf(t, strace, tt.child, whole)
			t.Logf("%d steps", len(steps))
			for _, s := range steps {
				dir := t.TempDir()
				tt.make(t, dir)
				killAt(t, strace, s, tt.child, dir)
				changes, gaps, err := Pending(dir)
				do(t, err)
				tt.check(t, changes, gaps)
				batch := cutAlone(t, dir)
				tt.check(t, batch.Changes, batch.Gaps)
			}
		})
	}
}

// A step is the nth call of a system call.
type step struct {
	call string
	nth  int
}

// changing are the system calls that change a directory or a file, or make it durable.
const changing = "?renameat,?renameat2,?rename,?unlinkat,?unlink,?write,pwrite64,ftruncate,fsync,fdatasync,flock"

// stepsOf lets a child do its work and returns the steps that it took.
func stepsOf(t *testing.T, strace, child, dir string) (steps []step) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	cmd := childCommand(t, child, dir, strace, "-f", "-qq", "-o", log, "-e", "signal=none", "-e", "trace="+changing)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(log)
	do(t, err)
	counts := map[string]int{}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line) // pid, call(arguments
		if call, _, ok := strings.Cut(fields[1], "("); ok && fields[0] == firstField(data) {
			counts[call]++
			steps = append(steps, step{call, counts[call]})
		}
	}
	if len(steps) < 5 {
		t.Fatalf("only %d steps:\n%s", len(steps), data)
	}
	return steps
}

func firstField(data []byte) string {
	pid, _, _ := strings.Cut(string(data), " ")
	return pid
}

func killAt(t *testing.T, strace string, s step, child, dir string) {
	t.Helper()
	inject := fmt.Sprintf("inject=%s:signal=KILL:when=%d", s.call, s.nth)
	cmd := childCommand(t, child, dir, strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace="+s.call, "-e", inject)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("killed at %v: %v\n%s", s, err, out)
	}
}

func makeOld(t *testing.T, dir string) {
	j := open(t, dir)
	j.Record("old", Content)
	do(t, j.Beat(time.Now()))
	do(t, j.Close())
}

func makeBatch(t *testing.T, dir string) {
	j := open(t, dir)
	j.Record("carried", Content)
	j.Record("copied", Content)
	id, err := j.cut()
	do(t, err)
	j.Record("later", Content)
	do(t, j.Close())
	do(t, os.WriteFile(filepath.Join(dir, "id"), []byte(id), 0o600))
}

func makeDamaged(t *testing.T, dir string) {
	makeOld(t, dir)
	records := appendChange([]byte(segmentHeader), Change{Path: "lost", Kind: Content})
	records[len(records)-1]++
	do(t, os.WriteFile(segmentPath(dir, 2), appendSeal(records), 0o600))
	do(t, setKnownUntil(dir, time.Now()))
}

// askAsChild asks the watcher on a socket for its status.
func askAsChild(socket string) error {
	profiles, err := Ask(context.Background(), socket)
	if err == nil {
		fmt.Println(len(profiles), "profiles")
	}
	return err
}
