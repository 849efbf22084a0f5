package testscripts

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/testscripts/disk"
)

// An absence is a source that is changed at random while nobody watches it, on a file system of its own.
type absence struct {
	*site
	work *workload

	runs   map[string]int
	listed map[string]int
}

// settles is longer than what was changed before a run is too young for it to note what it copied.
const settles = 150 * time.Millisecond

// TestGaps changes a source while it is watched and while it is not. After every run the copy is the
// source, although no run but the first compares everything.
func TestGaps(t *testing.T) {
	for _, tt := range []struct {
		disk    string
		watches bool
	}{
		{"ext4", true},
		{"xfs", true},
		{"btrfs", true},
		{"tmpfs", true},
		{"ext4", false},
	} {
		t.Run(fmt.Sprintf("%s watched %v", tt.disk, tt.watches), func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("mounting needs root")
			}
			t.Parallel()
			disk, seed := disk.New(t, tt.disk), seed(t)
			s := newSequence(t, func() stage { return newAbsence(t, disk, seed, tt.watches) })
			r := rand.New(rand.NewPCG(seed, 1))
			for range 300 {
				s.take("step")
			}
			s.take("run")
			for end := time.Now().Add(liveFor(t)); time.Now().Before(end) && !t.Failed(); {
				gaps(s, r, tt.watches)
			}
			s.stage.(*absence).tell()
		})
	}
}

func newAbsence(t *testing.T, disk string, seed uint64, watches bool) *absence {
	a := &absence{site: newSiteIn(t, disk, 0), runs: map[string]int{}, listed: map[string]int{}}
	a.profile("p", a.dir+"/dst", "[watch]", `backend = "`+map[bool]string{true: "fanotify", false: "none"}[watches]+`"`)
	a.work = newWorkload(t, seed, a.dir, root|handles)
	a.work.limit = 300
	return a
}

// gaps takes turns up to the next run. The watcher starts or ends now and then, with changes that it may
// see.
func gaps(s *sequence, r *rand.Rand, watches bool) {
	if watches && r.IntN(2) == 0 {
		s.take("start the watcher")
		for range r.IntN(20) {
			s.take("step")
		}
	}
	if watches && r.IntN(2) == 0 {
		s.take([]string{"end the watcher", "kill the watcher"}[r.IntN(2)])
	}
	if r.IntN(3) == 0 {
		s.take("set the clock back")
	}
	for range 1 + r.IntN(60) {
		s.take("step")
	}
	if r.IntN(2) == 0 {
		s.take("settle")
	}
	s.take("run")
}

// take implements stage.
func (a *absence) take(turn turn) (did, trouble string) {
	switch turn.what {
	case "step":
		return a.work.stepOf(turn.number), ""
	case "start the watcher":
		if a.watcher == nil {
			a.startWatcher("p")
		}
	case "end the watcher":
		a.endWatcher(unix.SIGTERM)
	case "kill the watcher":
		a.endWatcher(unix.SIGKILL)
	case "set the clock back":
		a.setClockBack()
	case "settle":
		time.Sleep(settles)
	case "run":
		return "", a.copy()
	}
	return "", ""
}

// strike implements stage.
func (a *absence) strike() {
	a.work.close()
	a.endWatcher(unix.SIGKILL)
	a.must(os.RemoveAll(a.dir))
}

func (a *absence) tell() {
	a.work.close()
	a.untouched()
	for kind, n := range a.runs {
		a.t.Logf("%d runs of %.0f listed on average: %s", n, float64(a.listed[kind])/float64(n), kind)
	}
	a.t.Log(a.work.done)
	runs := 0
	for _, n := range a.runs {
		runs += n
	}
	count(a.t, "%d steps, %d runs", a.work.steps, runs)
}

// setClockBack makes the state that of a machine whose clock was an hour ahead: no ctime tells what
// happened since.
func (a *absence) setClockBack() {
	if a.watcher != nil {
		return
	}
	a.must(clockWasAhead(a.dir + "/state/profiles/p"))
}

// clockWasAhead has the state of a profile say that all is known, and was copied, until an hour from now.
func clockWasAhead(dir string) error {
	then := time.Now().Add(time.Hour).Format(time.RFC3339Nano)
	text := fmt.Sprintf(" %-118s\n", fmt.Sprintf(`{"until":%q}`, then))
	known := fmt.Appendf(nil, "%08x%s", castagnoli([]byte(text)), text)
	if err := os.WriteFile(filepath.Join(dir, "journal/known"), known, 0o600); err != nil {
		return err
	}
	file := filepath.Join(dir, "memory.json")
	memory, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	memory = memory[:bytes.LastIndex(memory, []byte(`"crc32c `))]
	memory = regexp.MustCompile(`"copied": "[^"]*"`).ReplaceAll(memory, fmt.Appendf(nil, `"copied": %q`, then))
	return os.WriteFile(file, fmt.Appendf(memory, "\"crc32c %08x\"\n", castagnoli(memory)), 0o600)
}

func castagnoli(data []byte) uint32 { return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) }

// copy runs the profile and compares. What is too young to be copied once and for all stays pending.
func (a *absence) copy() (trouble string) {
	r := a.sync(nil, "p")
	kind := r.Mode + ": " + r.Reason
	a.runs[kind]++
	a.listed[kind] += r.Listed
	if r.State != "ok" {
		return fmt.Sprintf("a run: %+v", r)
	}
	return a.unlike("p", a.dir+"/dst")
}

func (a *absence) copied() {
	a.t.Helper()
	if trouble := a.copy(); trouble != "" {
		a.t.Error(trouble)
	}
}

// TestMovedBack takes a directory out of the source and back in, between runs: below it nothing shows that
// the target has lost it meanwhile.
func TestMovedBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("fanotify needs root")
	}
	t.Parallel()
	for _, tt := range []struct {
		name     string
		out      string // where to
		watchOut bool
		inside   func(a *absence) // what else happens in one that is out
	}{
		{"beside", "beside/b", true, nil},
		{"beside, unwatched", "beside/b", false, nil},
		{"within", "src/b", true, nil},
		{"within, unwatched", "src/b", false, nil},
		{"part of it", "src/b", true, func(a *absence) { a.rename("src/b/c", "beside/c") }},
		{"part of it, unwatched", "src/b", false, func(a *absence) { a.rename("src/b/c", "beside/c") }},
		{"replaced", "beside/b", true, func(a *absence) { a.must(os.WriteFile(a.dir+"/src/a/b", nil, 0o600)) }},
		{"replaced, unwatched", "beside/b", false, func(a *absence) { a.must(os.WriteFile(a.dir+"/src/a/b", nil, 0o600)) }},
		{"another in its place", "beside/b", true, func(a *absence) { a.must(os.Mkdir(a.dir+"/src/a/b", 0o700)) }},
		{"another in its place, unwatched", "beside/b", false, func(a *absence) { a.must(os.Mkdir(a.dir+"/src/a/b", 0o700)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := &absence{site: newSite(t, 0), runs: map[string]int{}, listed: map[string]int{}}
			a.profile("p", a.dir+"/dst", "[watch]", `backend = "fanotify"`)
			a.must(os.MkdirAll(a.dir+"/src/a/b/c/d", 0o755))
			a.must(os.WriteFile(a.dir+"/src/a/b/c/d/f", []byte("x"), 0o644))
			a.must(os.WriteFile(a.dir+"/src/a/b/f", []byte("x"), 0o644))
			run := func() {
				time.Sleep(settles)
				if a.watcher == nil {
					a.setClockBack()
				}
				a.copied()
			}
			time.Sleep(settles)
			a.copied()
			if tt.watchOut {
				a.startWatcher("p")
				run()
			}
			a.rename("src/a/b", tt.out)
			run()
			if tt.inside != nil {
				tt.inside(a)
				run()
			}
			a.endWatcher(unix.SIGTERM)
			_ = os.Remove(a.dir + "/src/a/b")
			a.rename(tt.out, "src/a/b")
			run()
			if _, err := os.Stat(a.dir + "/beside/c"); err == nil {
				a.rename("beside/c", "src/a/b/c")
				run()
			}
		})
	}
}

func (a *absence) rename(from, to string) { a.must(os.Rename(a.dir+"/"+from, a.dir+"/"+to)) }

// TestMovedIntoCollapsed makes a directory in one in which so much happens that the journal has it only as a
// whole, under the name of one that was moved away and of which a part comes back in a gap.
func TestMovedIntoCollapsed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("fanotify needs root")
	}
	t.Parallel()
	a := &absence{site: newSite(t, 0), runs: map[string]int{}, listed: map[string]int{}}
	a.profile("p", a.dir+"/dst", "[watch]", `backend = "fanotify"`)
	a.shell(a.dir+"/src", "mkdir -p a/old a/d/t/bench/deep; echo x >a/d/t/bench/f; echo x >a/d/t/bench/deep/f")
	time.Sleep(settles)
	a.copied()
	a.startWatcher("p")
	a.rename("src/a/d", "src/x")
	a.copied()
	a.shell(a.dir+"/src/a", "mkdir d; seq 10050 | xargs touch; seq 10050 | xargs rm")
	time.Sleep(settles)
	a.copied()
	a.endWatcher(unix.SIGTERM)
	a.rename("src/x/t", "src/a/d/t")
	time.Sleep(settles)
	a.setClockBack()
	a.copied()
}

// TestIncludedAgain changes what is left out for a while behind an equal size and time. The first run that has it
// again copies it, or, if that does not come to its end, the next one.
func TestIncludedAgain(t *testing.T) {
	for _, broken := range []bool{false, true} {
		t.Run(fmt.Sprintf("broken off %v", broken), func(t *testing.T) {
			s := faulty(t, "fanotify", nil)
			rewrite := func(text string) {
				s.shell(s.dir+"/src", "echo "+text+" >d/same; touch -d 2020-02-02 d/same")
			}
			rewrite("first")
			s.says(0, "", "p")
			included, err := os.ReadFile(s.dir + "/etc/p.toml")
			s.must(err)
			s.option("p", `exclude = ["/d/"]`)
			s.says(0, "", "p")
			rewrite("later")
			s.says(0, "", "p")
			s.must(os.WriteFile(s.dir+"/etc/p.toml", included, 0o644))
			if broken {
				s.beforeCopying("exit 20")
				s.says(1, "ended with code 20", "p")
			}
			s.heals("full")
		})
	}
}

// TestTargetsInTurn copies to one target, then to another, and back to the first, which has not seen what was
// changed meanwhile behind an equal size and time.
func TestTargetsInTurn(t *testing.T) {
	for _, tt := range []struct {
		name       string
		args       []string
		away, back string // shell scripts
	}{
		{"profile edited", []string{"p"}, "sed -i s,/dst,/other, etc/p.toml", "sed -i s,/other,/dst, etc/p.toml"},
		{"disks changed", []string{"--accept", "p"}, "mount -t tmpfs tmpfs dst", "umount dst"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := faulty(t, "fanotify", map[string]string{"dst": "ext4"})
			s.shell(s.dir+"/src", "mkdir x y; echo one >x/f; echo two >y/f; echo first >d/same; touch -d 2020-02-02 d/same ?/f")
			s.says(0, "", "p")
			s.shell(s.dir, tt.away)
			s.says(0, "", tt.args...)
			s.shell(s.dir+"/src", "echo later >d/same; touch -d 2020-02-02 d/same; mv x z; mv y x; mv z y")
			s.says(0, "", "p")
			s.shell(s.dir, tt.back)
			s.says(0, "", tt.args...)
			s.equal("p", s.dir+"/dst")
		})
	}
}

// TestRemadeDuringGap removes a directory in a gap, and makes another one of its name between the moment when the
// run reads the source and the one when rsync does. What the target holds of the old one goes.
func TestRemadeDuringGap(t *testing.T) {
	for _, tt := range []struct{ name, inGap, inRun string }{
		{"gone", "rm -r src/o", "mkdir -p src/o/a"},
		{"a file", "rm -r src/o; touch src/o", "rm src/o; mkdir -p src/o/a"},
		{"below", "rm -r src/o/a", "mkdir -p src/o/a/b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := faulty(t, "fanotify", nil)
			s.shell(s.dir+"/src", "mkdir -p o/a/b o/c; touch o/a/b/old o/c/old")
			time.Sleep(settles)
			s.says(0, "", "p")
			s.endWatcher(unix.SIGKILL)
			s.shell(s.dir, tt.inGap)
			s.startWatcher("p")
			s.beforeCopying(tt.inRun)
			if r := s.says(0, "", "p"); r.Mode != "gap" {
				t.Errorf("the run was %s: %s", r.Mode, r.Reason)
			}
			s.heals("changes")
		})
	}
}

// TestRemadeAfterFailure removes a directory in a gap, whose run cannot look for what is gone, and makes another one of
// its name before the next run, or before that looks.
func TestRemadeAfterFailure(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late %v", late), func(t *testing.T) {
			s := faulty(t, "fanotify", nil)
			s.shell(s.dir+"/src", "mkdir -p o/a/b; touch o/a/b/old")
			time.Sleep(settles)
			s.says(0, "", "p")
			s.endWatcher(unix.SIGKILL)
			s.shell(s.dir+"/src", "rm -r o")
			s.startWatcher("p")
			env := s.env
			s.asRsync(`case "$*" in *" -n "*) ;; *" --no-r --dirs --delete "*)
				echo "rsync: [sender] opendir \"` + s.dir + `/src/.\" failed: Input/output error (5)" >&2
				exit 23;; esac`)
			s.says(3, "Input/output error", "p")
			s.env = env
			if late {
				s.beforeCopying("mkdir -p src/o/a")
				s.says(0, "", "p")
			} else {
				s.shell(s.dir+"/src", "mkdir -p o/a")
			}
			s.heals("changes")
		})
	}
}

// TestRemadeAfterFailedFile has a file in the place of a directory since a gap. What the target has mounted there is in the
// file's way, and belongs to a directory that comes after it, empty.
func TestRemadeAfterFailedFile(t *testing.T) {
	s := faulty(t, "fanotify", nil)
	s.shell(s.dir, "mkdir dst/o")
	s.mounts("dst/o")
	s.shell(s.dir+"/src", "mkdir -p o/a; touch o/old o/a/old")
	time.Sleep(settles)
	s.says(0, "", "p")
	s.endWatcher(unix.SIGKILL)
	s.shell(s.dir+"/src", "rm -r o; touch o")
	s.startWatcher("p")
	s.says(3, "could not make way for new regular file: o", "p")
	s.shell(s.dir+"/src", "rm o; mkdir o")
	s.heals("changes")
}

// TestGoneUnderMount removes what the target has on a file system of its own: with the directory that is there, after which
// another one is made, and by itself. No run is told of it but by what it finds.
func TestGoneUnderMount(t *testing.T) {
	for _, tt := range []struct {
		name, gone, remade string
		watched            bool
		args               []string
	}{
		{"remade after a gap", "rm -r src/o", "mkdir -p src/o/m", false, []string{"p"}},
		{"replaced", "mv src/o beside/o; mv src/z src/o", "true", true, []string{"p"}},
		{"full", "rm -r src/o/m/*", "true", false, []string{"--full", "p"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := faulty(t, "fanotify", nil)
			s.shell(s.dir, "mkdir -p dst/o/m")
			s.mounts("dst/o/m")
			s.shell(s.dir+"/src", "mkdir -p o/m/a z/m; touch o/m/old o/m/a/old")
			time.Sleep(settles)
			s.says(0, "", "p")
			if !tt.watched {
				s.endWatcher(unix.SIGKILL)
			}
			s.shell(s.dir, tt.gone)
			if !tt.watched {
				s.startWatcher("p")
			}
			s.says(0, "", tt.args...)
			s.shell(s.dir, tt.remade)
			s.heals("changes")
		})
	}
}

// TestVanishedInPlaceOfDirectory puts a file in the place of a directory, removes it between the moment when the run reads
// the source and the one when rsync does, and makes another directory there before the next run.
func TestVanishedInPlaceOfDirectory(t *testing.T) {
	for _, tt := range []struct{ name, script string }{
		{"a file", "rm -r o; touch o"},
		{"one of several names", "rm -r o; touch n; ln n o"},
	} {
		for _, backend := range []string{"fanotify", "inotify"} {
			t.Run(tt.name+" "+backend, func(t *testing.T) {
				s := faulty(t, backend, nil)
				s.shell(s.dir+"/src", "mkdir -p o/a/b; touch o/a/b/old")
				s.says(0, "", "p")
				s.shell(s.dir+"/src", tt.script)
				s.beforeCopying("rm src/o")
				s.says(0, "", "p")
				s.shell(s.dir+"/src", "mkdir -p o/a")
				s.heals("changes")
			})
		}
	}
}

// TestMovedBackAfterInterruption ends a run when it has already brought the target in line with a directory
// that then goes back to where it was.
func TestMovedBackAfterInterruption(t *testing.T) {
	t.Parallel()
	a := &absence{site: newSite(t, 0), runs: map[string]int{}, listed: map[string]int{}}
	a.profile("p", a.dir+"/dst", "[watch]", `backend = "none"`)
	a.must(os.MkdirAll(a.dir+"/src/a/b/c", 0o755))
	a.must(os.Mkdir(a.dir+"/src/z", 0o755))
	a.must(os.WriteFile(a.dir+"/src/a/b/c/f", []byte("x"), 0o644))
	time.Sleep(settles)
	a.copied()
	a.rename("src/a/b", "src/z/b2")
	time.Sleep(settles)
	a.setClockBack()
	a.sync(func(pid int) {
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
			if _, err := os.Stat(a.dir + "/dst/a/b"); err != nil {
				break
			}
		}
		_ = unix.Kill(pid, unix.SIGKILL)
	}, "p")
	a.rename("src/z/b2", "src/a/b")
	for range 2 {
		time.Sleep(settles)
		a.setClockBack()
		a.copied()
	}
}
