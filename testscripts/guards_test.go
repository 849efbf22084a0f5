package testscripts

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/sync/rsync/rsynctest"
	"rsince/testscripts/disk"
)

// What is below a directory that a file takes the place of is deleted as well, and is counted.
func TestReplacedDirectory(t *testing.T) {
	s := newSite(t, 0)
	ssh := rsynctest.StartSSH(t)
	s.must(os.Mkdir(s.dir+"/ssh", 0o755))
	watch := []string{"[watch]", `backend = "inotify"`}
	s.profile("local", s.dir+"/dst", watch...)
	s.profile("ssh", ssh.Host+":"+s.dir+"/ssh", watch...)
	s.option("ssh", fmt.Sprintf("rsync_options = [%q]", "--rsh="+ssh.Shell))
	s.writes("src/keep", "src/name/a", "src/name/sub/b")
	s.startWatcher("local", "ssh")
	s.syncs("ok", "local")
	s.syncs("ok", "ssh")
	s.must(os.RemoveAll(s.dir + "/src/name"))
	s.must(os.WriteFile(s.dir+"/src/name", []byte("file"), 0o644))
	for profile, target := range map[string]string{"local": s.dir + "/dst", "ssh": s.dir + "/ssh"} {
		s.syncs("refused", "--max-delete", "2", profile)
		if _, err := os.Stat(target + "/name/sub/b"); err != nil {
			t.Error(err)
		}
		s.syncs("ok", "--max-delete", "3", profile)
		s.equal(profile, target)
	}
}

// syncs runs sync and fails the test unless it ends in a state.
func (s *site) syncs(state string, args ...string) result {
	s.t.Helper()
	r := s.sync(nil, args...)
	if r.State != state {
		s.t.Errorf("sync %v: %+v, expected %s", args, r, state)
	}
	return r
}

// asRsync puts a shell script before rsync, which it is given as $rsync, for the runs from now on.
func (s *site) asRsync(script string) {
	s.t.Helper()
	rsync, err := exec.LookPath("rsync")
	s.must(err)
	dir := s.t.TempDir()
	s.must(os.WriteFile(dir+"/rsync", []byte("#!/bin/sh\nrsync="+rsync+"\n"+script+"\nexec $rsync \"$@\"\n"), 0o755))
	s.env = append(s.env, "PATH="+dir+":"+os.Getenv("PATH"))
}

// mounts mounts a tmpfs on a directory of the site until the test ends.
func (s *site) mounts(dir string) {
	s.t.Helper()
	s.must(unix.Mount("tmpfs", s.dir+"/"+dir, "tmpfs", 0, ""))
	s.t.Cleanup(func() { _ = unix.Unmount(s.dir+"/"+dir, unix.MNT_DETACH) })
}

func (s *site) writes(files ...string) {
	s.t.Helper()
	for _, file := range files {
		path := s.dir + "/" + file
		s.must(os.MkdirAll(filepath.Dir(path), 0o755))
		s.must(os.WriteFile(path, []byte(file), 0o644))
	}
}

func (s *site) holds(want bool, files ...string) {
	s.t.Helper()
	for _, file := range files {
		if _, err := os.Lstat(s.dir + "/" + file); (err == nil) != want {
			s.t.Errorf("%s: %v, expected to be there: %t", file, err, want)
		}
	}
}

// A source or a target that goes away after it was met is neither taken for empty nor written into. An
// ordinary unmount is refused meanwhile; here it is done by force.
func TestUnmountedMeanwhile(t *testing.T) {
	s := newSite(t, 0)
	s.profile("p", s.dir+"/dst")
	s.mounts("src")
	s.mounts("dst")
	s.writes("src/a", "src/b")
	s.syncs("ok", "p")

	s.asRsync(`case "$*" in *progress2*) umount ` + s.dir + `/src;; esac`)
	s.syncs("ok", "--full", "p")
	s.holds(true, "src/a", "dst/a")

	s.asRsync(`case "$*" in *" -n "*) umount -l ` + s.dir + `/src;; esac`)
	s.syncs("failed", "--full", "p")
	s.holds(true, "dst/a", "dst/b")
	s.syncs("refused", "p")

	s.mounts("src")
	s.writes("src/a", "src/c")
	s.asRsync(`case "$*" in *" -n "*) umount -l ` + s.dir + `/dst;; esac`)
	s.syncs("failed", "--accept", "p")
	s.holds(false, "dst/a", "dst/c")
}

// rsync copies from the source that was met, also when it is started again in the middle of a pass, and it is not
// started again for another target.
func TestUnmountedBeforeRsync(t *testing.T) {
	for name, script := range map[string]string{
		"source":         "umount -l $site/src",
		"source covered": "mount -t tmpfs none $site/src",
		"source, again":  `[ -e $site/tried ] && umount -l $site/src; touch $site/tried`,
		"target":         `$rsync "$@"; code=$?; umount -l $site/dst; exit $code`,
		"target covered": `$rsync "$@"; code=$?; mount --bind $site/beside $site/dst; exit $code`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, 0)
			s.profile("p", s.dir+"/dst")
			s.writes("beside/c")
			s.must(os.Mkdir(s.dir+"/root", 0o755))
			s.mounts("src")
			s.mounts("root")
			s.must(unix.Mount(s.dir+"/root", s.dir+"/dst", "", unix.MS_BIND, ""))
			t.Cleanup(func() {
				for _, dir := range []string{"src", "dst", "dst"} {
					_ = unix.Unmount(s.dir+"/"+dir, unix.MNT_DETACH)
				}
			})
			s.writes("src/a", "src/sub/b")
			s.tooDeep("src")
			s.syncs("partial", "p")
			s.asRsync("site=" + s.dir + `; case "$*" in *" -n "*) ;; *progress2*) ` + script + ";; esac")
			s.syncs("failed", "--full", "p")
			s.holds(true, "root/a", "root/sub/b", "beside/c")
			if strings.HasPrefix(name, "target") {
				s.holds(false, "dst/a")
			}
		})
	}
}

// tooDeep makes a file with a path that is too long for rsync, which makes an rsync that finds it try again.
func (s *site) tooDeep(dir string) {
	s.t.Helper()
	at, err := unix.Open(s.dir+"/"+dir, unix.O_DIRECTORY, 0)
	s.must(err)
	name := strings.Repeat("d", 250)
	for range 17 {
		s.must(unix.Mkdirat(at, name, 0o755))
		next, err := unix.Openat(at, name, unix.O_DIRECTORY, 0)
		s.must(err)
		s.must(unix.Close(at))
		at = next
	}
	s.must(unix.Mknodat(at, "f", unix.S_IFREG|0o644, 0))
	s.must(unix.Close(at))
}

// What goes from the source after the deletions were counted counts as well.
func TestEmptiedMeanwhile(t *testing.T) {
	s := newSite(t, 0)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "fanotify"`)
	s.writes("src/keep")
	s.many("src/d", 150)
	s.many("src/e", 150)
	s.startWatcher("p")
	s.syncs("ok", "p")
	env := s.env
	emptying := func(dir string) {
		s.env = env
		s.asRsync(`case "$*" in *" -n "*) ;; *progress2*) rm -r ` + s.dir + "/src/" + dir + ";; esac")
	}

	// A renamed directory is none of it.
	s.must(os.Rename(s.dir+"/src/d", s.dir+"/src/f"))
	emptying("e")
	r := s.syncs("refused", "--full", "--max-delete", "10", "p")
	if r.code != 5 || !strings.Contains(r.Message, "max_delete is 10") || s.number("dst/e") < 140 || s.number("dst/f") != 150 {
		t.Errorf("%+v, %d names are left", r, s.number("dst/e"))
	}
	s.syncs("refused", "--max-delete", "10", "p")
	s.env = env
	s.syncs("ok", "--max-delete", "151", "p")

	emptying("f")
	s.syncs("refused", "--full", "--max-delete", "50%", "p")
	s.must(os.Mkdir(s.dir+"/src/f", 0o755))
	s.syncs("ok", "--full", "--max-delete", "none", "p")
	s.env = env
	s.syncs("ok", "p")
	s.equal("p", s.dir+"/dst")
}

// A first run stops to delete as well when the source is emptied meanwhile.
func TestEmptiedInFirstRun(t *testing.T) {
	s := newSite(t, 0)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "none"`)
	s.many("src", 300)
	s.shell(s.dir, "cp -a src/. dst")
	s.asRsync(`case "$*" in *" -n "*) ;; *progress2*) rm -r ` + s.dir + "/src/*;; esac")
	r := s.syncs("refused", "--max-delete", "50%", "p")
	if r.code != 5 || !strings.Contains(r.Message, "more than 150 of 300 entries") || s.number("dst") < 150 {
		t.Errorf("%+v, %d names are left", r, s.number("dst"))
	}
}

// Of files that were renamed onto each other one is left.
func TestRenamedOntoOne(t *testing.T) {
	s := newSite(t, 0)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "fanotify"`)
	s.many("src", 30)
	s.startWatcher("p")
	s.syncs("ok", "p")
	for i := range 30 {
		s.must(os.Rename(fmt.Sprintf("%s/src/%d", s.dir, i), s.dir+"/src/one"))
	}
	s.syncs("refused", "--max-delete", "28", "p")
	s.syncs("refused", "--full", "--max-delete", "28", "p")
	s.syncs("ok", "--max-delete", "29", "p")
	s.equal("p", s.dir+"/dst")
}

// many makes n small files in a directory.
func (s *site) many(dir string, n int) {
	for i := range n {
		s.writes(fmt.Sprintf("%s/%d", dir, i))
	}
}

// number counts the names in a directory.
func (s *site) number(dir string) int {
	entries, _ := os.ReadDir(s.dir + "/" + dir)
	return len(entries)
}

// A source of which only mount points are left is not called empty.
func TestNothingButMountPoints(t *testing.T) {
	s := newSite(t, 0)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "none"`)
	s.writes("src/a/f", "src/b/f")
	s.syncs("ok", "p")
	s.mounts("src/a")
	s.mounts("src/b")
	if r := s.syncs("refused", "p"); !strings.Contains(r.Message, "has nothing left but mount points and held 4 entries") {
		t.Error(r.Message)
	}
}

// What is mounted inside the source while a run begins does not become part of it.
func TestMountedMeanwhile(t *testing.T) {
	s := newSite(t, 0)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "fanotify"`)
	s.writes("src/m/hidden", "src/f")
	s.startWatcher("p")
	s.syncs("ok", "p")
	t.Cleanup(func() { _ = unix.Unmount(s.dir+"/src/m", unix.MNT_DETACH) })
	s.asRsync(`case "$*" in *rsince-probe*) mountpoint -q ` + s.dir + `/src/m || { mount -t tmpfs none ` + s.dir + `/src/m; echo >` + s.dir + `/src/m/foreign; sleep 2; };; esac`)
	s.syncs("ok", "--full", "p")
	s.holds(true, "dst/m/hidden", "src/m/foreign")
	s.holds(false, "dst/m/foreign")
}

// A name is no longer in the source when it is moved to where it is left out, or becomes what is left out.
func TestMovedIntoExcluded(t *testing.T) {
	s := newSite(t, 0)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "fanotify"`)
	s.option("p", `exclude = ["/trash/", "build/"]`)
	s.writes("src/photos/1", "src/photos/2", "src/photos/3", "src/keep", "src/d/build")
	s.must(os.Mkdir(s.dir+"/src/trash", 0o755))
	s.startWatcher("p")
	s.syncs("ok", "p")
	s.must(os.Rename(s.dir+"/src/photos", s.dir+"/src/trash/photos"))
	s.syncs("refused", "--max-delete", "3", "p")
	s.holds(true, "dst/photos/1")
	s.syncs("ok", "--max-delete", "4", "p")
	s.holds(false, "dst/photos")

	s.must(os.Remove(s.dir + "/src/d/build"))
	s.must(os.Mkdir(s.dir+"/src/d/build", 0o755))
	s.syncs("ok", "p")
	s.holds(false, "dst/d/build")
}

// What a one-shot found on its target stays there, also where it is in the way, and when the first run
// does not come to its end.
func TestKeepsExisting(t *testing.T) {
	s := newSite(t, 0)
	ssh := rsynctest.StartSSH(t)
	s.env = append(s.env, "RSYNC_RSH="+ssh.Shell)
	s.writes("src/f", "src/x")
	once := s.t.TempDir() + "/once"
	s.asRsync(`case "$*" in *progress2*) [ -e ` + once + ` ] || { touch ` + once + `; exit 12; };; esac`)
	for dir, target := range map[string]string{
		"dst":    s.dir + "/dst",
		"ssh":    ssh.Host + ":" + s.dir + "/ssh",
		"daemon": rsynctest.StartDaemon(t, s.dir+"/daemon", "use chroot = yes"),
	} {
		s.writes(dir+"/precious", dir+"/x/precious")
		_ = os.Remove(once)
		oneshot := []string{s.dir + "/src", target}
		s.syncs("failed", oneshot...)
		s.syncs("partial", oneshot...)
		s.syncs("partial", oneshot...)
		s.syncs("partial", append(oneshot, "--full")...)
		s.holds(true, dir+"/f", dir+"/precious", dir+"/x/precious")
	}
}

// TestRemadeLeavesDirectories looks at the target's directories before each rsync while a fifo is made anew.
func TestRemadeLeavesDirectories(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("fanotify needs root")
	}
	s := newSite(t, 0)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "fanotify"`)
	s.shell(s.dir+"/src", "mkdir -m 751 d; chmod 752 .; mkfifo d/a; ln d/a d/b")
	s.startWatcher("p")
	s.syncs("ok", "p")
	s.shell(s.dir+"/src", "rm d/b; mkfifo d/b")
	s.asRsync("stat -c %a " + s.dir + "/dst " + s.dir + "/dst/d >>" + s.dir + "/modes")
	s.syncs("ok", "p")
	modes, err := os.ReadFile(s.dir + "/modes")
	s.must(err)
	if rest := strings.ReplaceAll(string(modes), "752\n751\n", ""); rest != "" {
		t.Errorf("the directories were %q", modes)
	}
	s.equal("p", s.dir+"/dst")
}

// TestRsyncKilledInRun kills an rsync in the middle of a run, which goes on with another one. That removes what the
// first has left, although none of it is pending any more.
func TestRsyncKilledInRun(t *testing.T) {
	s := faulty(t, "fanotify", nil)
	for code, args := range map[int][]string{12: {"p"}, 10: {"p"}, 2: {"--full", "p"}} {
		s.shell(s.dir+"/src", "echo more >>d/changed; ln -f d/same same")
		once := s.t.TempDir() + "/once"
		s.asRsync(`case "$*" in *" -n "* | *--delete*) ;; *--files-from*) [ -e ` + once + ` ] || { touch ` + once + `; $rsync "$@"; touch ` + s.dir + `/dst/d/.changed.Ab12Cd; exit ` + strconv.Itoa(code) + `; };; esac`)
		s.says(0, "", args...)
		if _, err := os.Stat(once); err != nil {
			t.Error("no rsync was killed")
		}
		s.equal("p", s.dir+"/dst")
	}
}

// Also in a first run that deletes nothing else.
func TestRsyncKilledInOneShot(t *testing.T) {
	s := newSite(t, 0)
	s.writes("src/a", "dst/only/u", "dst/.mine.Ab12Cd")
	once := s.t.TempDir() + "/once"
	s.asRsync(`case "$*" in *" -n "*) ;; *progress2*) [ -e ` + once + ` ] || { touch ` + once + `; $rsync "$@"; touch ` + s.dir + `/dst/.a.Ab12Cd; exit 12; };; esac`)
	s.syncs("ok", s.dir+"/src", s.dir+"/dst")
	s.holds(true, "dst/a", "dst/only/u", "dst/.mine.Ab12Cd")
	s.holds(false, "dst/.a.Ab12Cd")
}

// Nor does it stay beside a file that the run found by itself, and that the next one is not told of.
func TestRsyncKilledUntold(t *testing.T) {
	s := faulty(t, "inotify", nil)
	env := s.env
	s.shell(s.dir+"/src", "echo more >>kept")
	s.says(0, "", "p")
	s.asRsync(`case "$*" in *" -n "*) ;; *" -I "*) $rsync "$@"; touch ` + s.dir + `/dst/.kept.Ab12Cd; exit 14;; esac`)
	s.shell(s.dir+"/src", "echo more >>d/changed")
	s.says(1, "rsync ended with code 14", "p")
	s.env = env
	time.Sleep(200 * time.Millisecond)
	s.heals("changes")
}

// TestProbeKilled kills a run while it asks the target what it keeps. The next one removes what that has left, also
// when no room is left to ask again.
func TestProbeKilled(t *testing.T) {
	for name, script := range map[string]string{"room": "true", "full": "cat /dev/zero 2>/dev/null >gone || true"} {
		t.Run(name, func(t *testing.T) {
			s := faulty(t, "fanotify", map[string]string{"dst": "tmpfs"})
			s.killsProbe()
			s.sync(nil, "--full", "p")
			if left, _ := filepath.Glob(s.dir + "/dst/.rsince-probe-*"); len(left) != 1 {
				t.Fatalf("the killed run left %q", left)
			}
			s.shell(s.dir+"/src", "rm gone")
			s.shell(s.dir+"/dst", script)
			s.says(0, "", "p")
			s.equal("p", s.dir+"/dst")
		})
	}
}

// killsProbe kills a run once, when it has sent the files by which it asks the target what it keeps.
func (s *site) killsProbe() {
	once := s.t.TempDir() + "/once"
	s.asRsync(`case "$*" in *rsince-probe*) [ -e ` + once + ` ] || { touch ` + once + `; $rsync "$@"; kill -9 $PPID; exit 1; };; esac`)
}

// TestFirstRunBrokenOff ends a first run in the middle. What the target has then is that run's, and no reason to refuse
// the next one or to keep what the source loses meanwhile.
func TestFirstRunBrokenOff(t *testing.T) {
	for _, oneshot := range []bool{false, true} {
		s := newSite(t, 0)
		args := []string{"p"}
		s.profile("p", s.dir+"/dst", "[watch]", `backend = "none"`)
		if oneshot {
			args = []string{s.dir + "/src", s.dir + "/dst"}
			s.writes("dst/precious")
		}
		s.writes("src/f", "src/gone", "src/d/gone")
		once := s.t.TempDir() + "/once"
		s.asRsync(`case "$*" in *progress2*) [ -e ` + once + ` ] || { touch ` + once + `; $rsync "$@"; touch ` + s.dir + `/dst/d/.gone.Ab12Cd; exit 20; };; esac`)
		s.syncs("failed", args...)
		s.holds(true, "dst/gone", "dst/d/gone")
		s.shell(s.dir, "mv src all; mkdir src; cp -a all/. src; rm -r src/*")
		s.syncs("refused", append(args, "--accept")...)
		s.shell(s.dir, "rmdir src; mv all src; rm -r src/gone src/d")
		s.syncs("ok", args...)
		s.holds(false, "dst/gone", "dst/d")
		s.holds(true, "dst/f")
		s.holds(oneshot, "dst/precious")
	}
}

// It stays also where the source gets a directory of that name later, or something that cannot take its place.
func TestKeepsBelowExisting(t *testing.T) {
	s := newSite(t, 0)
	ssh := rsynctest.StartSSH(t)
	s.env = append(s.env, "RSYNC_RSH="+ssh.Shell)
	for dir, target := range map[string]string{"dst": s.dir + "/dst", "ssh": ssh.Host + ":" + s.dir + "/ssh"} {
		oneshot := []string{s.dir + "/src", target}
		s.must(os.RemoveAll(s.dir + "/src"))
		s.writes("src/f", dir+"/photos/old", dir+"/photos/[a]/old", dir+"/photo[a]/old", dir+"/notes/old", dir+"/list")
		s.syncs("ok", oneshot...)
		s.writes("src/photos/new", "src/photo[a]/new", "src/list")
		s.syncs("ok", oneshot...)
		s.syncs("ok", append(oneshot, "--full")...)
		s.writes("src/notes")
		if r := s.syncs("partial", oneshot...); r.Errors != 1 || !strings.Contains(r.Message, `"notes"`) {
			t.Errorf("%+v", r)
		}
		s.syncs("partial", append(oneshot, "--full")...)
		s.holds(true, dir+"/photos/old", dir+"/photos/[a]/old", dir+"/photo[a]/old", dir+"/notes/old",
			dir+"/photos/new", dir+"/photo[a]/new")
		s.must(os.RemoveAll(s.dir + "/" + dir + "/notes"))
		s.syncs("ok", oneshot...)
		s.must(os.Remove(s.dir + "/src/notes"))
		s.syncs("ok", oneshot...)
		s.holds(false, dir+"/notes")
	}
}

// What is in a directory of the target that mkfs or rsince made stays also when the source has one of that name.
func TestKeepsOwn(t *testing.T) {
	s := newSite(t, 0)
	disk.On(t, s.dir+"/dst", "ext4")
	s.writes("src/lost+found/new", "src/state/new")
	s.profile("p", s.dir+"/dst")
	state := []string{"--state-dir", s.dir + "/dst/state"}
	s.writes("dst/lost+found/#123")
	s.syncs("ok", append(state, "p")...)
	s.syncs("ok", append(state, "--full", "p")...)
	s.holds(true, "dst/lost+found/#123", "dst/lost+found/new", "dst/state/new")
	if r := s.syncs("ok", append(state, "p")...); r.Mode != "gap" {
		t.Errorf("the state is gone: %+v", r)
	}
}

// A source in which only lost+found is left is empty.
func TestEmptiedDisk(t *testing.T) {
	s := newSite(t, 0)
	disk.On(t, s.dir+"/src", "ext4")
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "none"`)
	s.writes("src/a", "src/d/b")
	s.says(0, "", "p")
	s.shell(s.dir+"/src", "rm -r a d; ls lost+found")
	s.says(5, "src is empty and held 4 entries at the last run", "p")
	s.holds(true, "dst/a", "dst/d/b")
	s.says(0, "", "--max-delete", "none", "p")
	s.holds(false, "dst/a", "dst/d")
}

// In a target that is no root of a file system, lost+found is a directory as any other.
func TestLostFoundOfSource(t *testing.T) {
	s := faulty(t, "fanotify", nil)
	s.writes("src/lost+found/#1", "src/lost+found/#2")
	s.says(0, "", "p")
	s.shell(s.dir+"/src", "rm lost+found/#1")
	s.heals("changes")
}

// A deletion that failed because the directory could not be read is made up for when it can be.
func TestUnreadDirectory(t *testing.T) {
	s := newSite(t, nobody)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "inotify"`)
	s.option("p", `exclude = ["build/"]`)
	s.writes("src/d/build", "src/d/f")
	s.give()
	s.startWatcher("p")
	s.syncs("ok", "p")
	s.must(os.Remove(s.dir + "/src/d/build"))
	s.must(os.Chmod(s.dir+"/src/d", 0o311))
	s.syncs("partial", "p")
	s.holds(true, "dst/d/build")
	s.must(os.Chmod(s.dir+"/src/d", 0o755))
	s.syncs("ok", "p")
	s.holds(false, "dst/d/build")
}

// A target that holds the source, or lies in it, is found also behind a bind mount.
func TestBindMounts(t *testing.T) {
	s := newSite(t, 0)
	s.writes("src/below/file", "src/file")
	s.binds(".", "dst/above")
	s.binds("src", "dst/same")
	s.binds("src/below", "dst/below")
	for _, target := range []string{"above", "same", "below"} {
		s.profile(target, s.dir+"/dst/"+target)
		s.syncs("failed", target)
		s.syncs("failed", "--accept", target)
	}
	s.holds(true, "src/below/file", "src/file", "etc")
}

// binds mounts a directory of the site on another one until the test ends.
func (s *site) binds(from, to string) {
	s.t.Helper()
	s.must(errors.Join(os.MkdirAll(s.dir+"/"+from, 0o755), os.MkdirAll(s.dir+"/"+to, 0o755)))
	s.must(unix.Mount(s.dir+"/"+from, s.dir+"/"+to, "", unix.MS_BIND, ""))
	s.t.Cleanup(func() { _ = unix.Unmount(s.dir+"/"+to, unix.MNT_DETACH) })
}

// So is one in which a mount shows the source, or that a mount in the source shows.
func TestBindMountsBelow(t *testing.T) {
	s := newSite(t, 0)
	s.writes("src/below/file", "src/file", "src/data/file", "dst/below/file")
	for name, mount := range map[string][2]string{"below": {"src/below", "dst/below/m"}, "above": {".", "dst/above/m"}, "same": {"src", "dst/same/a/b"}} {
		s.binds(mount[0], mount[1])
		s.profile(name, s.dir+"/dst/"+name)
	}
	s.binds("src/data", "src/copy")
	s.profile("itself", s.dir+"/src/copy")
	s.option("itself", `exclude = ["/copy/"]`)
	s.binds("dst/grows", "src/m")
	s.profile("grows", s.dir+"/dst/grows")
	s.option("grows", "one_file_system = false")
	for _, profile := range []string{"below", "above", "same", "itself", "grows"} {
		s.syncs("failed", profile)
		s.syncs("failed", "--accept", profile)
	}
	s.holds(true, "src/below/file", "src/file", "src/data/file", "etc")
	s.holds(false, "src/data/data", "dst/grows/m")

	s.profile("grows", s.dir+"/dst/grows") // with the source on one file system, what is mounted there is none of it
	s.syncs("ok", "grows")
	s.mounts("src/m")
	s.profile("disk", s.dir+"/src/m") // a disk of its own, which is left out of the source
	s.option("disk", `exclude = ["/m/"]`)
	s.syncs("ok", "disk")
	s.holds(true, "src/m/file")
	s.holds(false, "src/m/m")
}

// What is mounted in the target belongs to it while the source has a directory there. When it has none any more, nothing of
// it is deleted.
func TestMountsInTarget(t *testing.T) {
	for _, mode := range []string{"changes", "full"} {
		t.Run(mode, func(t *testing.T) {
			s := newSite(t, 0)
			s.profile("p", s.dir+"/dst", "[watch]", `backend = "fanotify"`)
			s.writes("src/usb/f", "src/usb/g", "src/a/b/m/f", "src/a/c", "src/t/f", "src/keep")
			for _, dir := range []string{"usb", "a/b/m", "t"} {
				s.binds("beside/"+dir, "dst/"+dir)
			}
			s.startWatcher("p")
			s.syncs("ok", "p", "--accept")
			args := []string{"p"}
			if mode == "full" {
				args = append(args, "--full")
			}
			s.must(os.Remove(s.dir + "/src/usb/g"))
			s.syncs("ok", args...)
			s.holds(true, "beside/usb/f", "beside/a/b/m/f")
			s.holds(false, "beside/usb/g")

			for _, dir := range []string{"usb", "a", "t"} {
				s.must(os.RemoveAll(s.dir + "/src/" + dir))
			}
			s.writes("src/t")
			s.syncs("partial", append(args, "--max-delete", "2")...)
			s.holds(true, "beside/usb/f", "beside/a/b/m/f", "beside/t/f")
			s.holds(false, "dst/a/c")
			for _, dir := range []string{"usb", "a/b/m", "t"} {
				s.must(unix.Unmount(s.dir+"/dst/"+dir, 0))
			}
			s.syncs("ok", args...)
			s.equal("p", s.dir+"/dst")
		})
	}
}

// A target that was filled and is empty is not the one it was, whatever its identity.
func TestEmptiedTarget(t *testing.T) {
	s := newSite(t, 0)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "inotify"`)
	s.writes("src/a", "src/b")
	s.startWatcher("p")
	s.syncs("ok", "p")
	s.must(os.Remove(s.dir + "/dst/a"))
	s.must(os.Remove(s.dir + "/dst/b"))
	s.writes("src/b")
	s.syncs("refused", "p")
	s.syncs("ok", "--accept", "p")
	s.equal("p", s.dir+"/dst")
}

// A look at the target that hangs is no absence of the target.
func TestStalledLook(t *testing.T) {
	s := newSite(t, 0)
	s.must(os.Mkdir(s.dir+"/module", 0o755))
	s.profile("p", rsynctest.StartDaemon(t, s.dir+"/module"), "[watch]", `backend = "none"`)
	s.must(exec.Command("sed", "-i", `s/^stall = .*/stall = "1s"/`, s.dir+"/etc/p.toml").Run())
	s.writes("src/a")
	s.syncs("ok", "p")
	s.asRsync(`case "$*" in *--dirs*) sleep 60;; esac`)
	if r := s.syncs("failed", "p"); !strings.Contains(r.Message, "no progress") {
		t.Errorf("%+v", r)
	}
}

// Where /proc is that of another namespace, a process has another number there.
func TestForeignProc(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	s := newSite(t, 0)
	wrapper := s.dir + "/rsince"
	s.must(os.WriteFile(wrapper, []byte("#!/bin/sh\nexec unshare --pid --fork "+s.program+" \"$@\"\n"), 0o755))
	s.program = wrapper
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "none"`)
	s.writes("src/d/f")
	s.says(0, "", "p")
	s.writes("src/d/g")
	s.heals("gap")
}

// A program file with capabilities closes its processes' /proc to others of the same user.
func TestFileCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	s := newSite(t, nobody)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "none"`)
	s.writes("src/d/f")
	s.give()
	chown := []byte("\x01\x00\x00\x02" + "\x01\x00\x00\x00" + strings.Repeat("\x00", 12)) // CAP_CHOWN, effective (capabilities(7))
	s.must(unix.Setxattr(s.program, "security.capability", chown, 0))
	s.says(0, "", "p")
	s.writes("src/d/g")
	s.shell(s.dir, "chown -R nobody:nogroup src")
	s.heals("gap")
}

// What the target has mounted is guarded like the rest: what it held before a first run, what is more than max_delete, and
// what mkfs has made.
func TestGuardsUnderMount(t *testing.T) {
	site := func(t *testing.T, backend string) *site {
		s := newSite(t, 0)
		s.shell(s.dir, "mkdir -p dst/m")
		s.mounts("dst/m")
		s.writes("src/kept", "src/m/kept")
		s.profile("p", s.dir+"/dst", "[watch]", `backend = "`+backend+`"`)
		return s
	}
	t.Run("a first run", func(t *testing.T) {
		s := site(t, "none")
		s.writes("dst/m/before")
		s.says(5, `was never copied to and holds 1 entries .* "m/before"`, "p")
		s.holds(true, "dst/m/before")
	})
	t.Run("no profile", func(t *testing.T) {
		s := site(t, "none")
		s.writes("dst/m/before", "dst/m/d/before")
		for _, args := range [][]string{nil, nil, {"--full"}} {
			s.says(0, "", append(args, s.dir+"/src", s.dir+"/dst")...)
			s.holds(true, "dst/m/before", "dst/m/d/before", "dst/m/kept")
		}
	})
	t.Run("no profile, and nothing there", func(t *testing.T) {
		s := site(t, "none")
		s.shell(s.dir, "mkdir -p dst/only/n")
		s.mounts("dst/only/n")
		s.writes("dst/only/n/before")
		s.says(0, "", s.dir+"/src", s.dir+"/dst")
		s.writes("src/only/n/new")
		for _, args := range [][]string{nil, {"--full"}} {
			s.says(0, "", append(args, s.dir+"/src", s.dir+"/dst")...)
			s.holds(true, "dst/only/n/before", "dst/only/n/new")
		}
	})
	for _, full := range []bool{true, false} {
		t.Run(fmt.Sprintf("max_delete, full %v", full), func(t *testing.T) {
			s := site(t, "fanotify")
			s.shell(s.dir, `sed -i 's/^max_delete.*/max_delete = "10"/' etc/p.toml`)
			s.many("src/m", 20)
			s.writes("src/z/kept")
			s.startWatcher("p")
			s.says(0, "", "p")
			var args []string
			if full {
				s.many("dst/m/more", 20)
				args = []string{"--full"}
			} else {
				s.shell(s.dir, "mv src/m beside/m; mv src/z src/m")
			}
			was := s.number("dst/m")
			s.says(5, "2[0-9] of .* entries of the target would be deleted; max_delete is 10", append(args, "p")...)
			if now := s.number("dst/m"); now != was {
				t.Errorf("%d of %d are left", now, was)
			}
		})
	}
	t.Run("verify", func(t *testing.T) {
		s := site(t, "none")
		s.says(0, "", "p")
		s.shell(s.dir, "touch dst/m/extra; touch -r src/m dst/m")
		s.tells(3, `only on the target +m/extra`, "verify", "p")
	})
	t.Run("lost+found", func(t *testing.T) {
		s := newSite(t, 0)
		s.shell(s.dir, "mkdir -p dst/m")
		s.disk("dst/m", "ext4")
		s.shell(s.dir+"/dst/m", "mklost+found 2>/dev/null; touch lost+found/found")
		s.writes("src/m/kept")
		s.profile("p", s.dir+"/dst", "[watch]", `backend = "none"`)
		s.says(0, "", "p")
		s.says(0, "", "--full", "p")
		s.holds(true, "dst/m/lost+found/found")
	})
}

// TestMountAway copies while what the target has mounted is away, and while it comes. The run after that brings it in line.
func TestMountAway(t *testing.T) {
	s := faulty(t, "fanotify", nil)
	s.writes("src/m/f", "src/m/g")
	s.binds("beside/m", "dst/m")
	s.heals("changes")
	s.must(unix.Unmount(s.dir+"/dst/m", 0))
	s.shell(s.dir+"/src/m", "rm f; echo more >>g; echo new >h")
	s.says(0, "", "p")
	s.shell(s.dir, "mount --bind beside/m dst/m")
	s.heals("changes")
	if r := s.says(0, "", "p"); r.Listed != 0 || r.Bytes != 0 {
		t.Errorf("%+v", r)
	}
	s.must(unix.Unmount(s.dir+"/dst/m", 0))
	s.shell(s.dir+"/src/m", "echo more >>h")
	s.beforeCopying("mount --bind beside/m dst/m")
	s.says(0, "", "p")
	s.heals("changes")
}

// TestLinkedAcrossMount has names of one file where the target can link them and where it cannot.
func TestLinkedAcrossMount(t *testing.T) {
	s := faulty(t, "fanotify", nil)
	s.shell(s.dir, "mkdir dst/m")
	s.mounts("dst/m")
	s.shell(s.dir+"/src", "mkdir m; echo one >a; ln a b; ln a m/c; ln a m/d")
	for range 2 {
		s.says(0, "", "p")
		s.shell(s.dir, "for name in a b m/c m/d; do cmp src/a dst/$name; done; test dst/a -ef dst/b; test dst/m/c -ef dst/m/d")
		s.tells(0, "nothing differs", "verify", "p")
		if r := s.says(0, "", "--full", "p"); r.Missed != 0 {
			t.Errorf("%+v", r)
		}
		s.shell(s.dir+"/src", "echo more >>m/d")
	}
}

// TestRoomUnderMount has files on a mount that holds no second copy of them: one fits when what was there has gone, the other
// is given another name.
func TestRoomUnderMount(t *testing.T) {
	site := func(t *testing.T) *site {
		if os.Geteuid() != 0 {
			t.Skip("mounting needs root")
		}
		s := newSite(t, 0)
		s.shell(s.dir, "mkdir -p dst/o/m")
		s.must(unix.Mount("tmpfs", s.dir+"/dst/o/m", "tmpfs", 0, "size=2400k"))
		t.Cleanup(func() { _ = unix.Unmount(s.dir+"/dst/o/m", unix.MNT_DETACH) })
		s.writes("src/kept", "src/o/m/kept", "beside/o/m/kept")
		s.profile("p", s.dir+"/dst", "[watch]", `backend = "fanotify"`)
		s.startWatcher("p")
		return s
	}
	t.Run("a directory in the place of another", func(t *testing.T) {
		s := site(t)
		s.shell(s.dir, "head -c 1500000 /dev/zero >src/o/m/old; head -c 1500000 /dev/zero >beside/o/m/new")
		s.says(0, "", "p")
		s.shell(s.dir, "mv src/o beside/old; mv beside/o src/o")
		s.heals("changes")
	})
	t.Run("another name, full", func(t *testing.T) {
		s := site(t)
		s.shell(s.dir+"/src/o/m", "head -c 1000000 /dev/zero >big; head -c 600000 /dev/zero >z")
		s.says(0, "", "p")
		s.shell(s.dir+"/src/o/m", "ln z zl")
		s.says(0, "", "--full", "p")
		s.equal("p", s.dir+"/dst")
	})
}

// What fails of a directory's attributes alone says nothing of what is in it: that is not copied again and again.
func TestAttributesOfDirectoryFail(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files away needs root")
	}
	s := newSite(t, 1000)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "inotify"`)
	s.writes("src/kept", "src/d/a", "src/d/e/b")
	s.shell(s.dir, "mkdir dst/d")
	s.give()
	s.shell(s.dir, "chown 0:0 dst/d; chmod 777 dst/d")
	s.startWatcher("p")
	s.says(3, `"d": chgrp`, "p")
	for range 2 {
		if r := s.says(3, `"d": chgrp`, "p"); r.Mode != "changes" || r.Listed != 1 || r.Bytes != 0 {
			t.Errorf("%+v", r)
		}
	}
}
