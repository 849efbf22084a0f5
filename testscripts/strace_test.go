package testscripts

import (
	"context"
	"fmt"
	"maps"
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

// steps are the system calls by which runs, with their rsyncs, and watchers change what is kept, start programs,
// lock, look, and talk to each other, each with how often one of their threads may do it before it is killed there.
var steps = map[string]map[string]int{
	"run": {
		"fsync": 4, "syncfs": 1, "rename": 2, "renameat": 3, "unlink": 1, "unlinkat": 2, "mkdirat": 2, "ftruncate": 1, "write": 25,
		"pwrite64": 2, "utimensat": 3, "fchmod": 2, "openat": 40, "flock": 2, "connect": 1, "execve": 2, "wait4": 4, "waitid": 2,
		"getdents64": 15, "newfstatat": 50, "kill": 1,
	},
	"watcher": {
		"fsync": 2, "fdatasync": 1, "renameat": 1, "unlinkat": 1, "write": 3, "pwrite64": 2, "openat": 10, "flock": 1, "accept4": 1,
		"getdents64": 2, "newfstatat": 8, "name_to_handle_at": 5, "open_by_handle_at": 5,
	},
}

// A peril is a source whose runs and watchers are killed.
type peril struct {
	*site
	seed   uint64
	work   *workload
	killed map[string]int
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
	for backend, can := range map[string]need{"fanotify": root | handles, "inotify": root} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			seed := seed(t)
			killAtSteps(t, seed, newSequence(t, func() stage { return newPeril(t, seed, backend, can) }))
		})
	}
}

func killAtSteps(t *testing.T, seed uint64, s *sequence) {
	r := rand.New(rand.NewPCG(seed, 2))
	tried := 0
	for end := time.Now().Add(liveFor(t)); time.Now().Before(end) && !t.Failed(); tried++ {
		for range 1 + r.IntN(30) {
			s.take("step")
		}
		s.take([]string{"run", "run", "watcher"}[r.IntN(3)])
		s.take("complete")
	}
	p := s.stage.(*peril)
	p.work.close()
	p.untouched()
	n := 0
	for _, times := range p.killed {
		n += times
	}
	t.Log(p.killed)
	count(t, "%d steps, %d of %d killed", p.work.steps, n, tried)
}

func newPeril(t *testing.T, seed uint64, backend string, can need) *peril {
	p := &peril{site: newSite(t, 0), seed: seed, killed: map[string]int{}}
	p.profile("p", p.dir+"/dst", "[watch]", fmt.Sprintf("backend = %q", backend))
	p.startWatcher("p")
	p.work = newWorkload(t, seed, p.dir, can)
	p.work.limit = 300
	return p
}

// take implements stage.
func (p *peril) take(turn turn) (did, trouble string) {
	r := rand.New(rand.NewPCG(p.seed, turn.number))
	switch turn.what {
	case "step":
		return p.work.stepOf(turn.number), ""
	case "complete":
		return "", p.complete("p", p.dir+"/dst")
	}
	step := pickStep(r, steps[turn.what])
	n := 1 + r.IntN(1+r.IntN(steps[turn.what][step]))
	did = fmt.Sprintf("at its %s number %d", step, n)
	kill := p.runKilledAt
	if turn.what == "watcher" {
		kill = func(step string, n int) bool { return p.watcherKilledAt(turn, step, n) }
	}
	if kill(step, n) {
		p.killed[turn.what+" "+step]++
	}
	return did, ""
}

// strike implements stage.
func (p *peril) strike() {
	p.work.close()
	p.endWatcher(unix.SIGKILL)
	p.must(os.RemoveAll(p.dir))
}

func pickStep(r *rand.Rand, steps map[string]int) string {
	names := slices.Sorted(maps.Keys(steps))
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
func (p *peril) watcherKilledAt(turn turn, step string, n int) bool {
	p.t.Helper()
	if p.watcher == nil {
		return false
	}
	args := append(straceArgs(step, n), "-p", strconv.Itoa(p.watcher.Process.Pid))
	tracer := exec.Command(args[0], args[1:]...)
	p.must(tracer.Start())
	p.traced()
	const during = 20
	for i := range uint64(during) {
		p.work.stepOf(turn.number*during + i)
	}
	p.sync(nil, "p")
	_ = tracer.Process.Signal(unix.SIGTERM)
	hung := time.AfterFunc(10*time.Second, func() { _ = tracer.Process.Kill() }) // it may wait for a thread that is gone
	_ = tracer.Wait()
	hung.Stop()
	if p.watcher.Process.Signal(unix.Signal(0)) == nil && !p.zombie() {
		return false
	}
	p.endWatcher(unix.SIGKILL)
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
