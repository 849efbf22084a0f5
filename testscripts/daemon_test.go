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
	if r := s.sync(nil, "--dry-run", "remote"); r.code != 5 {
		t.Errorf("a dry run: %+v", r)
	}
	s.syncs("ok", "--accept", "remote")
	s.syncs("ok", "remote")
	if _, err := os.Stat(s.dir + "/module/file"); err != nil {
		t.Error(err)
	}
}
