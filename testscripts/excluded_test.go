package testscripts

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"rsince/sync/rsync/rsynctest"
)

// everywhere gives the site profiles of its source with targets on this machine, over ssh and on a daemon, and returns
// their directories by the names of the profiles. Each gets the lines as well.
func (s *site) everywhere(lines ...string) map[string]string {
	s.t.Helper()
	targets := map[string]string{"local": "dst", "ssh": "ssh", "daemon": "daemon"}
	s.must(errors.Join(os.Mkdir(s.dir+"/ssh", 0o755), os.Mkdir(s.dir+"/daemon", 0o755)))
	ssh := rsynctest.StartSSH(s.t)
	s.profile("local", s.dir+"/dst", lines...)
	s.profile("ssh", ssh.Host+":"+s.dir+"/ssh", lines...)
	s.option("ssh", fmt.Sprintf("rsync_options = [%q]", "--rsh="+ssh.Shell))
	s.profile("daemon", rsynctest.StartDaemon(s.t, s.dir+"/daemon", "use chroot = yes"), lines...)
	return targets
}

// becomes puts something of another type in the place of a directory of the source.
func (s *site) becomes(kind, dir string) {
	s.t.Helper()
	path := s.dir + "/src/" + dir
	s.must(os.RemoveAll(path))
	switch kind {
	case "file":
		s.writes("src/" + dir)
	case "symlink":
		s.must(os.Symlink("/tmp", path))
	case "fifo":
		s.must(unix.Mkfifo(path, 0o600))
	case "device":
		s.must(unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	}
}

// Excluded files stay on the target, on whichever machine, when their directory goes, is renamed or becomes something
// else. A change of type that they are in the way of fails.
func TestExcludedStay(t *testing.T) {
	kinds := []string{"file", "symlink", "fifo", "device"}
	for _, backend := range []string{"fanotify", "none"} {
		t.Run(backend, func(t *testing.T) {
			s := newSite(t, 0)
			targets := s.everywhere("[watch]", fmt.Sprintf("backend = %q", backend))
			for _, dir := range append(kinds, "gone", "renamed") {
				s.writes("src/n/"+dir+"/k.tmp", "src/n/"+dir+"/f")
			}
			if backend != "none" {
				s.startWatcher("local", "ssh", "daemon")
			}
			for profile := range targets {
				s.syncs("ok", profile)
				s.option(profile, `exclude = ["*.tmp"]`)
				s.syncs("ok", profile)
			}
			for _, kind := range kinds {
				s.becomes(kind, "n/"+kind)
			}
			s.must(os.RemoveAll(s.dir + "/src/n/gone"))
			s.must(os.Rename(s.dir+"/src/n/renamed", s.dir+"/src/n/now"))
			for profile, dir := range targets {
				if r := s.syncs("partial", profile); r.code != 3 || r.Errors != len(kinds) {
					t.Errorf("%s: %+v", profile, r)
				}
				for _, name := range append(kinds, "gone", "renamed") {
					s.holds(true, dir+"/n/"+name+"/k.tmp")
					s.holds(false, dir+"/n/"+name+"/f")
				}
				s.holds(true, dir+"/n/now/f")
				s.holds(false, dir+"/n/now/k.tmp")
			}
		})
	}
}

// What is in an excluded directory of the target stays also when something that is not excluded takes the name of the
// directory in the source. That fails, until the directory is out of the way.
func TestExcludedNameTaken(t *testing.T) {
	for _, backend := range []string{"fanotify", "none"} {
		t.Run(backend, func(t *testing.T) {
			s := newSite(t, 0)
			targets := s.everywhere(`[watch]`, fmt.Sprintf("backend = %q", backend))
			s.writes("src/u/f")
			for profile := range targets {
				s.option(profile, `exclude = ["/cache/", "/*/.cache/"]`)
			}
			if backend != "none" {
				s.startWatcher("local", "ssh", "daemon")
			}
			for profile, dir := range targets {
				s.syncs("ok", profile)
				s.writes(dir+"/cache/sub/p", dir+"/u/.cache/p")
			}
			s.must(os.Symlink("/tmp", s.dir+"/src/cache"))
			s.writes("src/u/.cache", "src/other")
			for profile, dir := range targets {
				if r := s.syncs("partial", profile); r.code != 3 || r.Errors != 2 {
					t.Errorf("%s: %+v", profile, r)
				}
				s.syncs("partial", "--full", profile)
				s.holds(true, dir+"/cache/sub/p", dir+"/u/.cache/p", dir+"/other")
				s.must(errors.Join(os.RemoveAll(s.dir+"/"+dir+"/cache"), os.RemoveAll(s.dir+"/"+dir+"/u/.cache")))
				s.syncs("ok", profile)
				s.equal(profile, s.dir+"/"+dir)
			}
		})
	}
}
