package testscripts

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/testscripts/rig"
)

// Environment variables of TestPowerCut.
const (
	cutsEnv = "RSINCE_CUTS" // how often the power is cut for each kind of it
	bootEnv = "RSINCE_BOOT" // in the machine: see boot
)

// A powered is a machine whose power is cut, seen from outside. Its first disk holds the source, the
// second one the target.
type powered struct {
	t       *testing.T
	kind    powerCut
	program string // this test, for the machine
	seed    uint64
	rand    *rand.Rand
	dir     string // of the images; a failed test leaves it behind
	disks   []string
}

// A powerCut is a kind of TestPowerCut.
type powerCut struct {
	name  string
	state string // where the state is, below machineDir
	// contents: the runs compare contents, and everything may happen to the source. Otherwise nothing
	// happens to it that is untold.
	contents bool
}

// untold are operations of which a power cut can leave a part that neither size nor times tell: ext4
// writes what is changed in place apart from the time of the change (which comes with the next commit,
// within five seconds), and a swap that was copied may be undone.
var untold = []string{
	"rewrite behind equal size and time", "truncate", "write a mapping", "write what is held open", "write beside",
	"truncate what is held open", "copy a range", "punch a hole", "write by AIO", "store in a mapping", "write to a loop device",
	"swap trees of equal sizes and times",
}

// TestPowerCut cuts the power of a machine in which a source is changed, watched and copied. What is
// not flushed is lost: of the source also what was copied, of the state what a run relies on. After
// each cut the next run has to make the target what the source has become.
func TestPowerCut(t *testing.T) {
	if os.Getenv(bootEnv) != "" {
		bootFromEnv(t).live(t)
		return
	}
	if err := rig.Available("mkfs.ext4", "rsync"); err != nil {
		t.Skip(err)
	}
	program := rig.Build(t, "rsince/testscripts", "test", "-c")
	for i, kind := range []powerCut{
		{name: "state beside the source", state: "own"},
		{name: "state beside the target", state: "dst/own"},
		{name: "contents compared", state: "dst/own", contents: true},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			seed := seed(t)
			p := &powered{t: t, kind: kind, program: program, seed: seed, rand: rand.New(rand.NewPCG(seed, uint64(i)))}
			p.makeDisks()
			p.cut(cuts(t))
		})
	}
}

func cuts(t *testing.T) int {
	text := os.Getenv(cutsEnv)
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (p *powered) makeDisks() {
	dir, err := os.MkdirTemp("", "rsince-cut-")
	if err != nil {
		p.t.Fatal(err)
	}
	p.dir = dir
	p.t.Cleanup(func() {
		if p.t.Failed() {
			p.t.Logf("kept: %s (*.cut: the disks as the last power cut left them)", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			p.t.Error(err)
		}
	})
	for _, name := range []string{"source", "target"} {
		image := filepath.Join(dir, name)
		p.host("truncate", "-s", "400M", image)
		p.host("mkfs.ext4", "-q", image)
		p.disks = append(p.disks, image)
	}
}

func (p *powered) host(program string, args ...string) {
	p.t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		p.t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
}

// cut cuts the power so many times, and lets the machine recover at last.
func (p *powered) cut(times int) {
	for n := range times + 1 {
		for _, disk := range p.disks {
			p.host("cp", "--sparse=always", disk, disk+".cut")
		}
		if !p.boot(boot{number: n, last: n == times, contents: p.kind.contents}) {
			return
		}
	}
	count(p.t, "%d power cuts", times)
}

// What the machine says to the one that cuts its power.
const (
	sayRecovering = "recovering"
	sayRuns       = "runs of a source that changes: " // and how many have ended
)

// boot runs the machine until its power is cut, or, the last time, until it has recovered. It reports
// whether that went well.
func (p *powered) boot(b boot) bool {
	const longest = 3 * time.Minute
	machine, err := rig.Machine{Disks: p.disks}.Start(p.script(b))
	if err != nil {
		p.t.Fatal(err)
	}
	var cut, late atomic.Bool
	defer time.AfterFunc(longest, func() { late.Store(true); machine.Kill() }).Stop()
	when := p.moment(b)
	delay := time.Duration(p.rand.Int64N(int64(4 * time.Second)))
	var said []string
	for lines := bufio.NewScanner(machine); lines.Scan(); {
		switch line := lines.Text(); {
		case line == when:
			p.t.Logf("boot %d is cut %v after %q", b.number, delay, when)
			time.AfterFunc(delay, func() { cut.Store(true); machine.Kill() })
		case line != sayRecovering && !strings.HasPrefix(line, sayRuns):
			said = append(said, line)
		}
	}
	exit, err := machine.Wait()
	if cut.Load() && !late.Load() || b.last && exit == 0 && err == nil {
		return true
	}
	const shown = 60
	p.t.Errorf("boot %d ended with %d, %v, too late: %v; it said:\n%s", b.number, exit, err, late.Load(),
		strings.Join(said[:min(len(said), shown)], "\n"))
	return false
}

// moment is what the machine says before its power is cut.
func (p *powered) moment(b boot) string {
	switch {
	case b.last:
		return ""
	case b.number > 0 && p.rand.IntN(4) == 0:
		return sayRecovering
	}
	return sayRuns + strconv.Itoa(1+p.rand.IntN(2))
}

// machineDir is where, in the machine, the disk with the source is mounted.
const machineDir = "/mnt/site"

// script mounts the disks and runs the test. Hours lie between two boots, so that the times of a file
// tell whether it was changed since.
func (p *powered) script(b boot) string {
	return fmt.Sprintf(`set -e
date -s @$(($(date +%%s) + 3600 * %[1]d)) >/dev/null
mkdir %[2]s
mount /dev/ubda %[2]s
mkdir -p %[2]s/dst %[2]s/state
mount /dev/ubdb %[2]s/dst
mkdir -p %[2]s/%[3]s
mount --bind %[2]s/%[3]s %[2]s/state
%[4]s='%[5]s' %[6]s=%[7]d %[8]s -test.run '^TestPowerCut$'
`, b.number, machineDir, p.kind.state, bootEnv, b, seedEnv, p.seed, p.program)
}

// A boot is one of the machine, which passes it from outside to the inside.
type boot struct {
	number   int // from 0
	last     bool
	contents bool // see powerCut
}

const bootFormat = "%d %t %t"

func (b boot) String() string { return fmt.Sprintf(bootFormat, b.number, b.last, b.contents) }

func bootFromEnv(t *testing.T) (b boot) {
	if _, err := fmt.Sscanf(os.Getenv(bootEnv), bootFormat, &b.number, &b.last, &b.contents); err != nil {
		t.Fatal(err)
	}
	return b
}

// live is the life of the machine: what the last cut has left is made good, and then the source is
// changed and copied until the power is cut.
func (b boot) live(t *testing.T) {
	l := &life{site: b.site(t), modes: map[string]int{}, rand: rand.New(rand.NewPCG(seed(t), uint64(b.number)))}
	if b.number == 0 {
		l.must(os.WriteFile(l.dir+"/foreign/a", []byte("untouched"), 0o644))
		w := newWorkload(t, l.rand.Uint64(), l.dir, root|handles)
		for range 300 {
			w.step()
		}
		unix.Sync()
	}
	fmt.Println(sayRecovering)
	l.startWatcher("live")
	l.recover()
	if b.last || t.Failed() {
		return
	}
	w := newWorkload(t, l.rand.Uint64(), l.dir, root|handles)
	w.limit = 300
	if !b.contents {
		w.forget(t, untold)
	}
	l.liveOn(w)
}

// site is that in the machine.
func (b boot) site(t *testing.T) *site {
	s := &site{t: t, dir: machineDir}
	var err error
	s.program, err = exec.LookPath("rsince")
	s.must(err)
	for _, sub := range []string{"src", "beside", "foreign", "etc", "tmp"} {
		s.must(os.MkdirAll(filepath.Join(s.dir, sub), 0o755))
	}
	t.Setenv("TMPDIR", s.dir+"/tmp") // the machine's own keeps no xattrs, which rsince tries out
	s.profile("live", s.dir+"/dst/copy", "[watch]", `backend = "fanotify"`)
	if b.contents {
		s.option("live", `rsync_options = ["--checksum"]`)
	}
	return s
}

// forget takes operations out of the workload.
func (w *workload) forget(t *testing.T, names []string) {
	for _, name := range names {
		rest := slices.DeleteFunc(slices.Clone(w.operations), func(op operation) bool { return op.name == name })
		if len(rest) == len(w.operations) {
			t.Errorf("there is no operation %q", name)
		}
		w.operations = rest
	}
}

// recover copies what the cut has left, and compares. A second run is in order only after a partial one.
func (l *life) recover() {
	r := l.runOnce()
	if r.code == 3 {
		r = l.runOnce()
	}
	if r.State != "ok" {
		l.t.Errorf("the run after the cut: %+v", r)
	}
	l.equal("live", l.dir+"/dst/copy")
	l.untouched()
}

// liveOn changes and copies the source until the power is cut, however the runs end. Now and then it is
// flushed, and in some lives what was changed is flushed soon.
func (l *life) liveOn(w *workload) {
	if l.rand.IntN(2) == 0 {
		for _, name := range []string{"dirty_writeback_centisecs", "dirty_expire_centisecs"} {
			l.must(os.WriteFile("/proc/sys/vm/"+name, []byte(strconv.Itoa(10+l.rand.IntN(100))), 0))
		}
	}
	go func() {
		for range time.Tick(20 * time.Millisecond) { // one CPU is all there is: the runs need some of it
			for range w.rand.IntN(5) {
				w.step()
			}
		}
	}()
	for runs := 0; !l.t.Failed(); runs++ {
		fmt.Printf("%s%d\n", sayRuns, runs)
		l.sync(nil, "live")
		if l.rand.IntN(4) == 0 {
			unix.Sync()
		}
	}
}
