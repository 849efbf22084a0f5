package testscripts

import (
	"fmt"
	"os"
	"testing"

	"rsince/sync/rsync/rsynctest"
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
	s.must(os.MkdirAll(s.dir+"/src/name/sub", 0o755))
	for _, file := range []string{"keep", "name/a", "name/sub/b"} {
		s.must(os.WriteFile(s.dir+"/src/"+file, []byte(file), 0o644))
	}
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
