package testscripts

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// damage turns the bits of a byte in the middle of the only file of the profile's state that matches.
func (s *site) damage(pattern string) {
	s.t.Helper()
	files, _ := filepath.Glob(s.dir + "/state/profiles/p/" + pattern)
	if len(files) != 1 {
		s.t.Fatalf("%s: %q", pattern, files)
	}
	data, err := os.ReadFile(files[0])
	s.must(err)
	data[len(data)/2] ^= 0xff
	f, err := os.OpenFile(files[0], os.O_WRONLY, 0) // as a disk would, under the same inode
	s.must(err)
	_, err = f.WriteAt(data, 0)
	s.must(err)
	s.must(f.Close())
}

// What a run relies on is damaged: it says so, and compares instead.
func TestDamagedState(t *testing.T) {
	for _, tt := range []struct {
		file, backend string
		unwatched     bool   // the watcher is ended before
		mode, reason  string // of the next run
	}{
		{"journal/*.segment", "fanotify", false, "full", `the journal was damaged: .* a record is not what was written`},
		{"journal/*.segment", "inotify", true, "full", `the journal was damaged: .* a record is not what was written`},
		{"journal/known", "fanotify", true, "full", `it was never watched before; nothing is known from before`},
		{"catalog", "fanotify", true, "full", `the watcher was not running; reading .*/catalog: the catalog is damaged`},
		{"names", "inotify", false, "full", `the memory of files with several names is damaged`},
	} {
		t.Run(tt.file+" "+tt.backend, func(t *testing.T) {
			s := faulty(t, tt.backend, nil)
			s.shell(s.dir+"/src", "echo one >name; ln name d/other")
			s.says(0, "", "--full", "p")
			s.changes()
			s.tells(0, `content +d/changed`, "changes", "p")
			if tt.unwatched {
				s.endWatcher(unix.SIGKILL)
				s.damage(tt.file)
				s.startWatcher("p")
			} else {
				s.damage(tt.file)
			}
			// Not the name that tells that d/other has changed.
			s.shell(s.dir+"/src", "echo two >>name; rm name")
			r := s.says(0, "", "p")
			if r.Mode != tt.mode || !saidIn(tt.reason, r.Reason) {
				t.Errorf("mode %s because %s, want %s and %q", r.Mode, r.Reason, tt.mode, tt.reason)
			}
			s.equal("p", s.dir+"/dst")
			s.changes()
			s.heals("changes")
		})
	}
}

// What source and target are known by is damaged: nothing is copied, nor deleted, before somebody has looked.
func TestDamagedMemory(t *testing.T) {
	s := faulty(t, "fanotify", nil)
	s.changes()
	s.damage("memory.json")
	s.says(1, `(?s)rsince: p: reading .*/memory.json, which the run before left: it is damaged.*hint: move .*/memory.json away`, "p")
	s.tells(1, `(?s)rsince: p: reading .*/memory.json, .*watched +by fanotify`, "status", "p")
	s.untouchedTarget()
	s.must(os.Remove(s.dir + "/state/profiles/p/memory.json"))
	s.says(5, `(?s)rsince: p: .*/dst was never copied to and holds 1 entries that the source does not have, the first "gone".*hint: .*--accept p`, "p")
	s.untouchedTarget()
	s.says(0, "", "--accept", "p")
	s.equal("p", s.dir+"/dst")
	s.changes()
	s.heals("changes")
}

// A damaged memory of a verification stands in the way of nothing, nor of the status of other profiles.
func TestDamagedVerification(t *testing.T) {
	s := faulty(t, "fanotify", nil)
	s.profile("q", s.dir+"/other")
	s.verifies("p", 0, "")
	s.damage("verified.json")
	s.tells(1, `(?s)rsince: p: reading .*/verified.json, which the last verification left: it is damaged.*watched +by fanotify.*\nq: `, "status")
	s.changes()
	s.heals("changes")
	s.verifies("p", 0, "")
	s.tells(0, `watched +by fanotify`, "status", "p")
}

// Something else answers on the watcher's socket.
func TestRubbishOnSocket(t *testing.T) {
	s := faulty(t, "none", nil)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "fanotify"`)
	s.startWatcher("p")
	s.says(0, "", "p")
	s.changes()
	s.tells(0, `content +d/changed`, "changes", "p")
	s.endWatcher(unix.SIGKILL)
	socket := s.dir + "/state/watch.sock"
	s.must(os.Remove(socket))
	l, err := net.Listen("unix", socket)
	s.must(err)
	answer := make(chan string, 1)
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			text := <-answer
			answer <- text
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = conn.Write([]byte(text))
			_ = conn.Close()
		}
	}()
	for text, words := range map[string]string{
		"SSH-2.0-OpenSSH\r\n": `rsince: p: cutting the journal: reading the watcher's answer: invalid character`,
		"{}\n":                `rsince: p: cutting the journal: what answers on the watcher's socket does not answer as a watcher does`,
	} {
		answer <- text
		s.says(1, words, "p")
		s.untouchedTarget()
		<-answer
	}
	s.must(l.Close())
	s.says(0, `rsince: p: nobody watches it, so all of the source is looked at`, "p")
	s.equal("p", s.dir+"/dst")
	s.startWatcher("p")
	s.heals("gap")
}
