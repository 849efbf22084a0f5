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
	for _, step := range []struct {
		what, state string
		args        []string
	}{
		{"first run", "ok", nil},
		{"filled", "ok", nil},
		{"emptied", "refused", nil},
		{"emptied, dry run", "refused", []string{"--dry-run"}},
		{"accepted", "ok", []string{"--accept"}},
		{"filled again", "ok", nil},
	} {
		if step.what == "emptied" {
			s.must(os.Remove(s.dir + "/module/file"))
			s.must(os.Mkdir(s.dir+"/module/lost+found", 0o700))
		}
		r := s.sync(nil, append(step.args, "remote")...)
		if (r.State != step.state && r.State != "") || (r.code == 5) != (step.state == "refused") {
			t.Errorf("%s: %+v", step.what, r)
		}
	}
	if _, err := os.Stat(s.dir + "/module/file"); err != nil {
		t.Error(err)
	}
}
