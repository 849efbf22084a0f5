package testscripts

import (
	"os"
	"strings"
	"testing"

	"rsince/sync/rsync/rsynctest"
)

// What a daemon's module is cannot be asked, but one that was filled and is empty is not the one it was.
func TestEmptyModule(t *testing.T) {
	s := newSite(t, 0)
	s.must(os.Mkdir(s.dir+"/module", 0o755))
	s.profile("remote", rsynctest.StartDaemon(t, s.dir+"/module"), "[watch]", `backend = "none"`)
	s.must(os.WriteFile(s.dir+"/src/file", []byte("1"), 0o644))
	if status := s.output("status"); !strings.Contains(status, "a daemon does not tell what it is") {
		t.Errorf("status: %s", status)
	}
	s.syncs("ok", "remote")
	s.syncs("ok", "remote")
	s.must(os.Remove(s.dir + "/module/file"))
	s.must(os.Mkdir(s.dir+"/module/lost+found", 0o700))
	s.syncs("refused", "remote")
	s.syncs("refused", "--full", "remote")
	if r := s.sync(nil, "--dry-run", "remote"); r.code != 5 {
		t.Errorf("a dry run: %+v", r)
	}
	s.syncs("ok", "--accept", "remote")
	s.syncs("ok", "remote")
	if _, err := os.Stat(s.dir + "/module/file"); err != nil {
		t.Error(err)
	}
}

// A daemon does not tell what a directory is, but the profile tells that it is another one.
func TestOtherTarget(t *testing.T) {
	s := newSite(t, 0)
	module := s.dir + "/module"
	s.must(os.MkdirAll(module+"/other", 0o755))
	s.must(os.WriteFile(module+"/other/foreign", nil, 0o644))
	url := rsynctest.StartDaemon(t, module)
	s.must(os.WriteFile(s.dir+"/src/file", []byte("1"), 0o644))
	to := func(target string) { s.profile("p", target, "[watch]", `backend = "none"`) }

	to(url + "/first")
	if out := s.output("check", "p"); !strings.Contains(out, "the first run makes it in "+url+"\n") && !strings.Contains(out, "the first run makes it in "+url+";") {
		t.Errorf("check: %s", out)
	}
	s.syncs("ok", "p")
	to(url + "/other")
	if r := s.syncs("refused", "p"); !strings.Contains(r.Message, "never copied to") {
		t.Errorf("another target: %s", r.Message)
	}
	s.syncs("refused", "--full", "p")
	to(url + "/first")
	s.syncs("ok", "p")
	to(url + "/third")
	if r := s.syncs("ok", "p"); r.Mode != "full" || r.Reason != "the profile has another target" {
		t.Errorf("a new target: %+v", r)
	}
	to(s.dir + "/local")
	s.syncs("ok", "p")
	s.must(os.Rename(s.dir+"/local", s.dir+"/renamed"))
	to(s.dir + "/renamed")
	if r := s.syncs("ok", "p"); r.Reason != "the profile has changed" {
		t.Errorf("the target under another name: %+v", r)
	}
	for _, copied := range []string{module + "/first/file", module + "/third/file", s.dir + "/renamed/file", module + "/other/foreign"} {
		if _, err := os.Stat(copied); err != nil {
			t.Error(err)
		}
	}
}
