package testscripts

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// fillState leaves neither a byte nor an inode in the state's file system.
const fillState = `cat /dev/zero >state/fill 2>/dev/null || true
seq 600 | sed s,^,state/fill., | xargs touch 2>/dev/null || true
for i in $(seq 600); do printf x >>state/fill.$i || break; done 2>/dev/null`

func (s *site) freeState() {
	s.t.Helper()
	files, _ := filepath.Glob(s.dir + "/state/fill*")
	for _, file := range files {
		s.must(os.Remove(file))
	}
}

// changesMany makes more changes than fit into what is left of a page that the state has already.
func (s *site) changesMany(dir string) {
	s.t.Helper()
	s.shell(s.dir+"/src", "mkdir "+dir+"; seq 1000 | sed s,^,"+dir+"/, | xargs touch")
}

var stateTests = []struct {
	name, backend, disk string
	then                string // the mode of the next run
}{
	{"fanotify, tmpfs", "fanotify", "tmpfs", "changes"},
	{"inotify, ext4", "inotify", "ext4", "gap"}, // it makes files to find out whether it has heard all
}

// A full state directory loses no change: memory holds it until there is room.
func TestFullState(t *testing.T) {
	for _, tt := range stateTests {
		t.Run(tt.name, func(t *testing.T) {
			s := faulty(t, tt.backend, map[string]string{"state": tt.disk})
			s.shell(s.dir, fillState)
			s.changes()
			s.changesMany("lots")
			s.watcherSays(`p: .*no space left on device`)
			s.tells(0, `no space left on device`, "status", "p")
			s.says(1, `(?s)rsince: p: .*no space left on device.*hint: make room, then run again; all changes are still pending`, "p")
			s.untouchedTarget()
			s.freeState()
			s.heals(tt.then)

			s.changes()
			s.changesMany("many")
			s.beforeCopying(fillState)
			s.says(1, `(?s)rsince: p: .*no space left on device.*hint: make room`, "p")
			s.holds(true, "dst/kept", "dst/d/same")
			s.freeState()
			s.heals("")

			s.shell(s.dir, fillState)
			s.changes()
			s.endWatcher(unix.SIGKILL)
			s.freeState()
			s.startWatcher("p")
			s.heals("gap")
		})
	}
}

// A state directory that becomes read-only because of an error, as ext4 does it.
func TestReadOnlyState(t *testing.T) {
	s := faulty(t, "fanotify", map[string]string{"state": "ext4"})
	s.shell(s.dir, "sync -f state")
	s.errorIn("state")
	s.changes()
	s.watcherSays(`p: .*read-only file system`)
	s.says(1, `rsince: p: .*read-only file system`, "p")
	s.untouchedTarget()
	s.endWatcher(unix.SIGTERM)
	s.again("state")
	s.startWatcher("p")
	s.heals("gap")
}
