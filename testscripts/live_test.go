package testscripts

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/testscripts/disk"
)

// Environment variables of TestLive.
const (
	liveEnv = "RSINCE_LIVE" // how long each kind of it takes, such as 10m
	seedEnv = "RSINCE_SEED" // the seed of the random operations, as a failure printed it
	// countEnv is a file to which random tests add what they have done, which the test command prints.
	countEnv = "RSINCE_COUNT"
)

// A life is a source that changes all the time while it is copied again and again.
type life struct {
	*site
	rand    *rand.Rand
	backend string

	harms     []harm // done between runs; nil: nothing is ever missed
	killsRuns bool

	modes map[string]int
}

// disks are the file systems that the kinds of TestLive take turns to have, from one that the seed says.
var disks = []string{"ext4", "xfs", "btrfs", "tmpfs"}

// TestLive copies a source that is being changed at random. No run may hang, each ends with 0 or 3, and
// whenever the source is left alone for a while, the copy is the source.
func TestLive(t *testing.T) {
	for i, tt := range []struct {
		name, backend string
		can           need
		life          life
	}{
		{"fanotify", "fanotify", root | handles, life{}},
		{"inotify", "inotify", root, life{}},
		{"watcher killed", "fanotify", root | handles, life{harms: []harm{killWatcher}}},
		{"runs killed", "fanotify", root | handles, life{killsRuns: true}},
		{"all mixed", "fanotify", root | handles, life{harms: []harm{killWatcher, mountSomewhere, editPatterns}, killsRuns: true}},
		{"all mixed with inotify", "inotify", root, life{harms: []harm{killWatcher, mountSomewhere, editPatterns, overflow}, killsRuns: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("devices, owners and fanotify need root")
			}
			t.Parallel()
			l := tt.life
			l.modes = map[string]int{}
			seed := seed(t)
			kind := disks[(seed+uint64(i))%uint64(len(disks))]
			l.site = newSiteIn(t, disk.New(t, kind), 0)
			l.backend = tt.backend
			l.exclude()
			steps := l.run(seed, tt.can)
			count(t, "%d steps on %s, runs by mode and exit code: %v", steps, kind, l.modes)
		})
	}
}

// count tells what a random test has done.
func count(t *testing.T, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	if os.Getenv(countEnv) == "" {
		return
	}
	f, err := os.OpenFile(os.Getenv(countEnv), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintf(f, "%s: %s\n", t.Name(), line)
}

// seed is a new one each time, and is told when the test fails.
func seed(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(seedEnv); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s=%d", seedEnv, seed)
		}
	})
	return seed
}

func liveFor(t *testing.T) time.Duration {
	if text := os.Getenv(liveEnv); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if testing.Short() {
		return 5 * time.Second
	}
	return 25 * time.Second
}

func (l *life) run(seed uint64, can need) (steps int) {
	l.rand = rand.New(rand.NewPCG(seed, 1))
	w := newWorkload(l.t, seed, l.dir, can)
	w.limit = 50 << l.rand.IntN(4)              // where there are few names, more meets the same one again
	pause := time.Millisecond << l.rand.IntN(6) // and where little happens, a run is short
	for range 600 {
		w.step()
	}
	l.startWatcher("live")
	l.runOnce()

	var writing sync.WaitGroup
	var alone sync.Mutex // the source is being changed, or left alone
	stop := make(chan struct{})
	writing.Go(func() { write(w, pause, &alone, stop) })
	for end := time.Now().Add(liveFor(l.t)); time.Now().Before(end) && !l.t.Failed(); {
		l.disturb()
		if l.rand.IntN(10) == 0 {
			alone.Lock()
			l.quiet()
			alone.Unlock()
		}
	}
	close(stop)
	writing.Wait()
	w.close()
	if !l.t.Failed() {
		l.quiet()
	}
	l.t.Log(w.done)
	return w.steps
}

// write does a few steps at once, then pauses, so that a run sees the source between two of them.
func write(w *workload, pause time.Duration, alone *sync.Mutex, stop chan struct{}) {
	next := time.NewTicker(pause)
	defer next.Stop()
	for {
		alone.Lock()
		for range w.rand.IntN(20) {
			w.step()
		}
		alone.Unlock()
		select {
		case <-stop:
			return
		case <-next.C:
		}
	}
}

// disturb runs the profile once and does harm as the kind of test has it.
func (l *life) disturb() {
	if l.harms != nil && l.rand.IntN(3) == 0 {
		l.harms[l.rand.IntN(len(l.harms))](l)
	}
	if l.killsRuns && l.rand.IntN(2) == 0 {
		l.runKilled()
		return
	}
	l.runOnce()
}

func (l *life) runOnce() result {
	r := l.sync(nil, "live")
	l.modes[fmt.Sprintf("%s %d", r.Mode, r.code)]++
	if r.code != 0 && r.code != 3 {
		l.t.Errorf("a run ended with %d: %s\nits log:\n%s", r.code, r.stderr, l.output("log", "latest"))
	}
	return r
}

// runKilled kills a run at a random moment, now and then with every rsync it has.
func (l *life) runKilled() {
	delay := time.Duration(l.rand.Int64N(int64(600 * time.Millisecond)))
	all := l.rand.IntN(2) == 0
	var late *time.Timer
	killed := make(chan struct{})
	r := l.sync(func(pid int) {
		late = time.AfterFunc(delay, func() {
			defer close(killed)
			pids := []int{pid}
			if all {
				pids = l.processes()
			}
			for _, pid := range pids {
				if isRunOrRsync(pid) {
					_ = unix.Kill(pid, unix.SIGKILL)
				}
			}
		})
	}, "live")
	if !late.Stop() {
		<-killed
	}
	l.modes[fmt.Sprintf("killed %d", r.code)]++
}

func isRunOrRsync(pid int) bool {
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return filepath.Base(exe) == "rsync" || strings.Contains(commandLine(pid), " sync --json ")
}

// quiet copies what is left of a source that is left alone, and compares. A second run is in order only after a partial one.
func (l *life) quiet() {
	if l.watcher == nil {
		l.startWatcher("live")
	}
	l.unmount()
	l.exclude()
	r := l.runOnce()
	if r.code == 3 {
		r = l.runOnce()
	}
	if r.State != "ok" {
		l.t.Errorf("the last run: %+v", r)
	}
	l.modes["compared"]++
	// inotify may have lost sight of a directory that was being moved.
	if l.harms == nil && r.Mode != "changes" && (l.backend != "inotify" || r.Reason != "") {
		l.t.Errorf("the last run was %s, although nothing was missed: %s", r.Mode, r.Reason)
	}
	l.equal("live", l.dir+"/dst")
	l.untouched()
	if l.t.Failed() {
		_ = exec.Command("cp", "-a", l.dir+"/dst", l.dir+"/dst.found").Run()
		r := l.sync(nil, "--full", "live")
		l.t.Logf("after a full run (%+v): %v", r, differences(l.t, l.dir+"/src", l.dir+"/dst"))
	}
}
