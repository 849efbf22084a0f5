package testscripts

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// steps are the system calls by which a run and a watcher change what is kept, start programs, lock, and
// talk to each other, each with how often a process may do it at most before it is killed there.
var steps = map[string]int{
	"fsync": 8, "syncfs": 2, "rename": 6, "renameat": 6, "renameat2": 6, "unlinkat": 8, "mkdirat": 6, "ftruncate": 3,
	"write": 40, "pwrite64": 10, "openat": 60, "flock": 6, "connect": 3, "accept4": 3, "execve": 12, "wait4": 12, "waitid": 12,
	"getdents64": 20, "newfstatat": 80, "kill": 3,
}

// TestKilledAtStep kills runs and watchers when they are about to make a system call. Whatever they left,
// the next run completes the copy.
func TestKilledAtStep(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("devices, owners and fanotify need root")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	t.Parallel()
	s := newSite(t, 0)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "fanotify"`)
	r := rand.New(rand.NewPCG(seed(t), 2))
	w := newWorkload(t, r.Uint64(), s.dir, root|handles)
	w.limit = 300
	defer w.close()
	killed, tried := map[string]int{}, 0
	for end := time.Now().Add(liveFor(t)); time.Now().Before(end) && !t.Failed(); {
		if s.watcher == nil {
			s.startWatcher("p")
		}
		for range 1 + r.IntN(30) {
			w.step()
		}
		who, what := "run", s.runKilledAt
		if r.IntN(3) == 0 {
			who, what = "watcher", func(step string, n int) bool { return s.watcherKilledAt(w, step, n) }
		}
		step := pickStep(r)
		tried++
		if what(step, 1+r.IntN(1+r.IntN(steps[step]))) {
			killed[who+" "+step]++
		}
		s.completed()
	}
	s.untouched()
	n := 0
	for _, times := range killed {
		n += times
	}
	t.Logf("%d of %d killed: %v", n, tried, killed)
}

func pickStep(r *rand.Rand) string {
	var names []string
	for name := range steps {
		names = append(names, name)
	}
	slices.Sort(names)
	return names[r.IntN(len(names))]
}

// strace kills what it traces at the n-th of these system calls that one of its threads makes.
func straceArgs(step string, n int) []string {
	return []string{"strace", "-f", "-qqq", "-o", "/dev/null", "-e", "trace=" + step, "-e", "signal=none",
		"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", step, n)}
}

// runKilledAt reports whether the run, or one of its rsyncs, was killed.
func (s *site) runKilledAt(step string, n int) bool {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longestRun)
	defer cancel()
	cmd := s.command(ctx, "sync", "--json", "p")
	traced := exec.CommandContext(ctx, "strace", slices.Concat([]string{"--seccomp-bpf"}, straceArgs(step, n)[1:], cmd.Args)...)
	traced.Dir, traced.Env = cmd.Dir, cmd.Env
	traced.WaitDelay = time.Second
	err := traced.Run()
	if ctx.Err() != nil {
		s.t.Errorf("a run that was to be killed at %s %d hangs\n%s", step, n, s.diagnose())
	}
	return err != nil
}

// watcherKilledAt has the watcher killed while it works, and reports whether it was.
func (s *site) watcherKilledAt(w *workload, step string, n int) bool {
	s.t.Helper()
	args := append(straceArgs(step, n), "-p", strconv.Itoa(s.watcher.Process.Pid))
	tracer := exec.Command(args[0], args[1:]...)
	s.must(tracer.Start())
	s.traced()
	for range 20 {
		w.step()
	}
	s.sync(nil, "p")
	_ = tracer.Process.Signal(unix.SIGTERM)
	hung := time.AfterFunc(10*time.Second, func() { _ = tracer.Process.Kill() }) // it may wait for a thread that is gone
	_ = tracer.Wait()
	hung.Stop()
	if s.watcher.Process.Signal(unix.Signal(0)) == nil && !s.zombie() {
		return false
	}
	s.endWatcher(unix.SIGKILL)
	return true
}

// traced waits until the watcher is.
func (s *site) traced() {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if !strings.Contains(s.status(), "TracerPid:\t0\n") {
			return
		}
	}
}

func (s *site) zombie() bool { return strings.Contains(s.status(), "State:\tZ") }

func (s *site) status() string {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.watcher.Process.Pid))
	return string(status)
}

// completed runs until nothing is left, and compares.
func (s *site) completed() {
	s.t.Helper()
	if s.watcher == nil {
		s.startWatcher("p")
	}
	r := s.sync(nil, "p")
	if r.code == 3 {
		r = s.sync(nil, "p")
	}
	if r.State != "ok" {
		s.t.Errorf("the next run: %+v", r)
	}
	s.equal("p", s.dir+"/dst")
}
