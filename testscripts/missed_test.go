package testscripts

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// counts fails the test unless a full run ends with this code and has found these names different and untold of, in
// the order of the alphabet.
func (s *site) counts(code int, missed ...string) {
	s.t.Helper()
	r := s.sync(nil, "p", "--full")
	var found []string
	for line := range strings.Lines(s.output("log", "latest")) {
		if _, name, ok := strings.Cut(line, "missed, "); ok {
			found = append(found, strings.TrimSpace(name))
		}
	}
	if r.code != code || r.Mode != "full" || r.Missed != len(missed) || strings.Join(found, "|") != strings.Join(missed, "|") {
		s.t.Errorf("it ended with %d: %+v\nmissed %q\n  want %q", r.code, r, found, missed)
	}
}

// TestFullRunCounts has a full run count what it should have been told of: nothing, unless somebody else changes the
// target.
func TestFullRunCounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("looking at what others hold open needs root")
	}
	for _, backend := range []string{"fanotify", "inotify"} {
		t.Run(backend, func(t *testing.T) { fullRunCounts(t, backend) })
	}
}

func fullRunCounts(t *testing.T, backend string) {
	t.Parallel()
	s := newSite(t, 0)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "`+backend+`"`)
	s.writes("src/d/a", "src/d/b", "src/d/c", "src/e/f/g", "src/e/h", "src/fixed", "src/mode", "src/gone/x", "src/l/1", "src/old/1")
	s.must(errors.Join(os.Link(s.dir+"/src/l/1", s.dir+"/src/l/2"), os.WriteFile(s.dir+"/src/mapped", make([]byte, 4096), 0o644)))
	s.shell(s.dir+"/src", "mkfifo pipe; ln -s d/a link; mknod dev c 1 3; ln link link2; setfattr -n user.x -v y d/a")
	s.startWatcher("p")
	s.counts(0) // the first run
	s.counts(0)

	mem := mapShared(t, s.dir+"/src/mapped")
	defer func() { s.must(unix.Munmap(mem)) }()
	change := func() {
		s.t.Helper()
		copy(mem, "stored")
		s.shell(s.dir+"/src", `echo more >>d/b; rm -rf gone; mkdir gone new; echo x >new/x; ln new/x new/y; mv e/f new/f; mkdir -p e/f; echo more >>l/1
rm pipe; mkfifo pipe; chmod 600 mode; mv old older; mv older/1 old; rm link2; ln d/c c2; touch -h -d 2020-01-01 link`)
	}
	undo := func() {
		s.t.Helper()
		s.shell(s.dir+"/src", `rm -r old older new/x; mkdir old; echo 1 >old/1; rm -rf new; ln link link2; rm c2; echo y >d/a`)
	}
	change()
	s.counts(0)
	s.counts(0)
	undo()
	s.syncs("ok", "p")
	s.counts(0)

	// What somebody else changes on the target.
	s.shell(s.dir+"/dst", `echo other >d/c; rm d/b; mkdir -p extra/more; echo x >extra/more/x; chmod 640 mode; touch e; cp -p l/1 l/3; mv l/3 l/1; rm -r e/f; rm dev; mkfifo dev; ln -f fixed d/a`)
	s.shell(s.dir+"/src", `echo more >>e/h`)
	s.counts(0, `size, time, xattrs: "d/a"`, `missing on the target: "d/b"`, `size, time: "d/c"`, `type: "dev"`, `missing on the target: "e/f"`,
		`only on the target: "extra"`, `links: "fixed"`, `links: "l/2"`, `mode: "mode"`)
	if said := s.output("status", "p"); !strings.Contains(said, "missed        9, found by the full run ") {
		t.Error(said)
	}
	s.equal("p", s.dir+"/dst")
	s.counts(0)
	if said := s.output("status", "p"); strings.Contains(said, "missed") {
		t.Error(said)
	}

	// What cannot be copied is known.
	s.shell(s.dir, "echo more >>src/fixed; chattr +i dst/fixed; mkdir -p src/stuck dst/stuck; chattr +i dst/stuck; echo 1 >src/stuck/1")
	t.Cleanup(func() { _ = exec.Command("chattr", "-i", s.dir+"/dst/fixed", s.dir+"/dst/stuck").Run() })
	s.counts(3)
	s.counts(3)
	s.shell(s.dir, "chattr -i dst/fixed dst/stuck")
	s.counts(0)

	// What changes while it runs is the next run's.
	change()
	env := s.env
	s.asRsync(`case "$*" in *progress2*) cd ` + s.dir + `/src; date >>d/a; mv d d2; mkdir d; date >d/new; ln l/2 l/4; rm e/h; mkdir -p deep/er; date >deep/er/f; cd /;; esac`)
	s.counts(0)
	s.env = env
	s.counts(0)
	s.equal("p", s.dir+"/dst")

	// After a gap nothing is known.
	s.endWatcher(unix.SIGKILL)
	s.shell(s.dir, "echo more >>src/mode; echo other >dst/d/new")
	s.startWatcher("p")
	s.counts(0)
	s.equal("p", s.dir+"/dst")
}
