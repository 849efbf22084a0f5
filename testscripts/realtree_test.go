package testscripts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rsince/sync/rsync/rsynctest"
)

// nobody is a user without any privilege.
const nobody = 65534

// touches is how many operations a test of a real tree does between two runs, beside one of each kind.
const touches = 400

// TestRealTree copies the Go distribution to a directory, over ssh and to an rsync daemon, changes it
// in every way there is, and copies what was changed.
func TestRealTree(t *testing.T) {
	s := realSite(t, 0, "")
	ssh := rsynctest.StartSSH(t)
	for _, dir := range []string{"ssh", "daemon"} {
		s.must(os.Mkdir(filepath.Join(s.dir, dir), 0o755))
	}
	module := rsynctest.StartDaemon(t, s.dir+"/daemon", "use chroot = yes") // without it the daemon changes absolute symlinks
	watch := []string{"[watch]", `backend = "fanotify"`}
	s.profile("local", s.dir+"/dst", watch...)
	s.profile("ssh", ssh.Host+":"+s.dir+"/ssh", watch...)
	s.option("ssh", fmt.Sprintf("rsync_options = [%q]", "--rsh="+ssh.Shell))
	s.profile("daemon", module, watch...)
	s.copyTwice(root|handles, map[string]string{"local": s.dir + "/dst", "ssh": s.dir + "/ssh", "daemon": s.dir + "/daemon"})
}

// TestRealTreeInotify is the same with a watch on every directory.
func TestRealTreeInotify(t *testing.T) {
	s := realSite(t, 0, "src")
	s.profile("local", s.dir+"/dst", "[watch]", `backend = "inotify"`)
	s.copyTwice(root, map[string]string{"local": s.dir + "/dst"})
}

// TestRealTreeUser is the same as a user without privilege, for whom the program chooses how to watch.
func TestRealTreeUser(t *testing.T) {
	s := realSite(t, nobody, "src")
	s.profile("local", s.dir+"/dst")
	s.copyTwice(0, map[string]string{"local": s.dir + "/dst"})
}

// realSite makes a site whose source is a copy of the Go distribution or of a directory in it.
func realSite(t *testing.T, uid uint32, part string) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("devices, owners, fanotify and other users need root")
	}
	t.Parallel()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("go env GOROOT: %v", err)
	}
	from := filepath.Join(strings.TrimSpace(string(out)), part)
	s := newSite(t, uid)
	if text, err := exec.Command("cp", "-a", from+"/.", s.dir+"/src").CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, text)
	}
	return s
}

// option puts a line before the first table of a profile.
func (s *site) option(profile, line string) {
	path := filepath.Join(s.dir, "etc", profile+".toml")
	text, err := os.ReadFile(path)
	s.must(err)
	s.must(os.WriteFile(path, []byte(line+"\n"+string(text)), 0o644))
}

// copyTwice copies everything to each target, by profile, and after many changes what was changed.
func (s *site) copyTwice(can need, targets map[string]string) {
	s.give()
	var profiles []string
	for profile := range targets {
		profiles = append(profiles, profile)
	}
	s.startWatcher(profiles...)
	for profile := range targets {
		if r := s.sync(nil, profile); r.State != "ok" || r.Mode != "full" {
			s.t.Errorf("%s: first run: %+v", profile, r)
		}
	}
	w := newWorkload(s.t, seed(s.t), s.dir, can)
	s.asUser(func() { w.change(s.t) })
	for profile, target := range targets {
		r := s.sync(nil, profile)
		if r.State != "ok" || r.Mode != "changes" {
			s.t.Errorf("%s: second run: %+v", profile, r)
		}
		// A tree that was moved is one entry, a file with several links as many as it has.
		if limit := 5 * w.steps; r.Listed > limit {
			s.t.Errorf("%s: %d entries listed after %d operations, at most %d are in order", profile, r.Listed, w.steps, limit)
		}
		s.equal(profile, target)
	}
	s.untouched()
}

// asUser calls do with the rights of the site's user, which in Linux are a thread's.
func (s *site) asUser(do func()) {
	if s.user == nil {
		do()
		return
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		defer close(done)
		uid, gid := uintptr(s.user.Uid), uintptr(s.user.Gid)
		for _, call := range [][4]uintptr{{unix.SYS_SETGROUPS, 0, 0, 0}, {unix.SYS_SETRESGID, gid, gid, gid}, {unix.SYS_SETRESUID, uid, uid, uid}} {
			if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				done <- errno
				return
			}
		}
		do()
	}()
	s.must(<-done)
}

// change does one operation of each kind and then many at random.
func (w *workload) change(t *testing.T) {
	t.Helper()
	for range touches {
		w.step()
	}
	if missed := w.each(); len(missed) > 0 {
		t.Errorf("could not be done: %q", missed)
	}
	w.close()
}
