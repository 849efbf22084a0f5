package testscripts

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// says runs sync and fails the test unless it ends with a code and says these words; none: it says nothing.
func (s *site) says(code int, words string, args ...string) result {
	s.t.Helper()
	r := s.sync(nil, args...)
	if r.code != code || !saidIn(words, r.stderr) {
		s.t.Errorf("sync %v ended with %d: %q\nwant %d and %q", args, r.code, cut(r.stderr), code, words)
	}
	return r
}

// tells is says for any command.
func (s *site) tells(code int, words string, args ...string) {
	s.t.Helper()
	cmd := s.command(s.t.Context(), args...)
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code || !saidIn(words, string(out)) {
		s.t.Errorf("%v ended with %d: %q\nwant %d and %q", args, got, cut(string(out)), code, words)
	}
}

func saidIn(words, text string) bool {
	if words == "" {
		return text == ""
	}
	return regexp.MustCompile(words).MatchString(text)
}

func cut(text string) string { return text[:min(len(text), 2000)] }

// heals makes sure that the next run, without being told anything, makes the target equal to the source.
func (s *site) heals(mode string) {
	s.t.Helper()
	r := s.says(0, "", "p")
	if mode != "" && r.Mode != mode {
		s.t.Errorf("the run after the fault was %s because %s, expected %s", r.Mode, r.Reason, mode)
	}
	s.equal("p", s.dir+"/dst")
}

// faulty is a site of a profile p that was copied, with a watcher. Its directories in disks are file systems
// of their own: "tmpfs", or what mkfs.KIND makes.
func faulty(t *testing.T, backend string, disks map[string]string) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	t.Parallel()
	s := newSite(t, 0)
	for dir, kind := range disks {
		s.disk(dir, kind)
	}
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "`+backend+`"`)
	s.writes("src/kept", "src/gone", "src/d/changed", "src/d/same")
	if backend != "none" {
		s.startWatcher("p")
	}
	s.says(0, "", "p")
	return s
}

// disk mounts a small file system of its own on a directory of the site.
func (s *site) disk(dir, kind string) {
	s.t.Helper()
	at := s.dir + "/" + dir
	args := []string{"-t", "tmpfs", "-o", "size=2m,nr_inodes=500", "tmpfs", at}
	if kind != "tmpfs" {
		image := s.t.TempDir() + "/image"
		s.must(os.WriteFile(image, nil, 0o600))
		s.must(os.Truncate(image, 16<<20))
		if out, err := exec.Command("mkfs."+kind, "-q", "-m", "0", "-N", "500", "-e", "remount-ro", image).CombinedOutput(); err != nil {
			s.t.Fatalf("mkfs.%s: %v\n%s", kind, err, out)
		}
		args = []string{"-o", "loop", image, at}
	}
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		s.t.Fatalf("mount: %v\n%s", err, out)
	}
	_ = os.Remove(at + "/lost+found")
	s.t.Cleanup(func() {
		s.endWatcher(unix.SIGKILL)
		_ = unix.Unmount(at, unix.MNT_DETACH)
	})
}

// changes makes one change of each kind in the source of a faulty site.
func (s *site) changes() {
	s.t.Helper()
	s.shell(s.dir+"/src", "echo more >>d/changed; rm -f gone; mkdir -p new; echo new >>new/file")
}

// untouchedTarget fails the test if a file is gone from the target that the first run of a faulty site made.
func (s *site) untouchedTarget() {
	s.t.Helper()
	s.holds(true, "dst/kept", "dst/gone", "dst/d/changed", "dst/d/same")
}

// watcherSays waits until the watcher has said something.
func (s *site) watcherSays(words string) {
	s.t.Helper()
	for end := time.Now().Add(30 * time.Second); !saidIn(words, s.watcherSaid()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("the watcher does not say %q but %q", words, cut(s.watcherSaid()))
		}
	}
}

// errorIn has ext4 find its file system damaged, upon which it makes it read-only.
func (s *site) errorIn(dir string) {
	s.t.Helper()
	s.shell(s.dir, "echo 1 >/sys/fs/ext4/$(basename $(findmnt -no SOURCE "+dir+"))/trigger_fs_error")
}

// again unmounts, checks and mounts a file system of the site.
func (s *site) again(dir string) {
	s.t.Helper()
	s.shell(s.dir, "dev=$(findmnt -no SOURCE "+dir+"); image=$(losetup -nO BACK-FILE $dev); umount "+dir+"; e2fsck -fy $image >/dev/null || test $? = 1; mount -o loop $image "+dir+"; rm -rf "+dir+"/lost+found")
}

// beforeCopying has a shell script run in the site's directory before the first rsync of a run that copies.
func (s *site) beforeCopying(script string) {
	s.t.Helper()
	once := s.t.TempDir() + "/once"
	script = strings.ReplaceAll(script, "\n", "; ")
	s.asRsync(`case "$*" in *" -n "* | *rsince-probe*) ;; *progress2* | *--files-from*) [ -e ` + once + ` ] || { touch ` + once + `; cd ` + s.dir + ` && ` + script + `; cd /; };; esac`)
}
