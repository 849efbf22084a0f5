package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/logs"
	"rsince/sync/profile"
)

func TestLockConflicts(t *testing.T) {
	for _, test := range []struct {
		first, second string
		conflict      bool
	}{
		{"/b/home", "/b/home", true},
		{"/b/home", "/b", true},
		{"/b", "/b/home", true},
		{"/", "/b/home", true},
		{"/b/home", "/", true},
		{"/b/home", "/b/homes", false},
		{"/b/home", "/b/srv", false},
		{"host:/b", "/b", false},
		{"host:/b", "other:/b", false},
		{"host:/b", "root@HOST:/b/home", true},
		{"me@host:/b", "you@host:/b", true},
		{"rsync://host/m/a", "rsync://host:873/m", true},
		{"rsync://host/m", "rsync://host:874/m", false},
		{"rsync://host/m", "rsync://host/mm", false},
	} {
		dir := t.TempDir()
		first, err := lockTarget(t.Context(), dir, target(t, test.first), "first", 0)
		if err != nil {
			t.Fatal(err)
		}
		second, err := lockTarget(t.Context(), dir, target(t, test.second), "second", 0)
		var locked *LockedError
		switch {
		case !test.conflict && err == nil:
			err = second.release()
		case test.conflict && errors.As(err, &locked):
			h := locked.Holder
			if h.Profile != "first" || h.Target != target(t, test.first).String() || h.Owner.PID != os.Getpid() || time.Since(h.Since) > time.Minute {
				t.Errorf("%s, %s: held by %+v", test.first, test.second, h)
			}
			err = nil
		case test.conflict:
			t.Errorf("%s, %s: no conflict, but %v", test.first, test.second, err)
		}
		if err := errors.Join(err, first.release()); err != nil {
			t.Errorf("%s, %s: %v", test.first, test.second, err)
		}
		again, err := lockTarget(t.Context(), dir, target(t, test.second), "again", 0)
		if err != nil {
			t.Fatalf("%s after %s was released: %v", test.second, test.first, err)
		}
		again.release()
	}
}

func TestLockThroughSymlink(t *testing.T) {
	dir, b := t.TempDir(), t.TempDir()
	if err := os.Symlink(b, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	lock, err := lockTarget(t.Context(), dir, target(t, b+"/home"), "first", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.release()
	var locked *LockedError
	if _, err := lockTarget(t.Context(), dir, target(t, dir+"/link/home"), "second", 0); !errors.As(err, &locked) {
		t.Errorf("got %v", err)
	}
}

func TestLockWaits(t *testing.T) {
	dir := t.TempDir()
	first, err := lockTarget(t.Context(), dir, target(t, "/b"), "first", 0)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		second, err := lockTarget(t.Context(), dir, target(t, "/b/home"), "second", time.Minute)
		if err == nil {
			err = second.release()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(150 * time.Millisecond):
		first.release()
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
}

// TestOrphans has processes inherit locks of runs that are dead or alive.
func TestOrphans(t *testing.T) {
	self, err := logs.Self()
	if err != nil {
		t.Fatal(err)
	}
	// The number of a dead run can be that of another process now: here, of this one.
	reused := self
	reused.Start++
	rebooted := self
	rebooted.Boot = "another"
	for _, test := range []struct {
		name   string
		sign   func(file string)
		target string // that the dead run had
		ended  bool
	}{
		{"dead, number in use again", signedBy(t, reused, "/b/home"), "/b/home", true},
		{"dead since a boot", signedBy(t, rebooted, "/b/home"), "/b/home", true},
		{"dead, below", signedBy(t, reused, "/b/home/below"), "/b/home/below", true},
		{"dead, above", signedBy(t, reused, "/b"), "/b", true},
		{"garbled", func(file string) { write(t, file, "{\"owner\": garbage") }, "/b/home", true},
		{"empty", func(file string) { write(t, file, "") }, "/b/home", true},
		{"alive", signedBy(t, self, "/b/home"), "/b/home", false},
		{"alive, below", signedBy(t, self, "/b/home/below"), "/b/home/below", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			file := lockPath(dir, targetWay(test.target))
			// As a run on a target below has it.
			heir := startHeir(t, file, "exec 8>>"+lockPath(dir, targetWay("/b/home")), "test "+test.target+" = /b/home || flock -s 8")
			test.sign(file)
			lock, err := lockTarget(t.Context(), dir, target(t, "/b/home"), "next", 0)
			var locked *LockedError
			if test.ended != (err == nil) || !test.ended && !errors.As(err, &locked) {
				t.Errorf("got %v", err)
			}
			if err == nil {
				lock.release()
			}
			if ended := !heir.running(); ended != test.ended {
				t.Errorf("ended: %t", ended)
			}
		})
	}
}

// TestStubbornOrphan ignores SIGTERM.
func TestStubbornOrphan(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as an orphan gets")
	}
	t.Parallel()
	dir := t.TempDir()
	file := lockPath(dir, targetWay("/b/home"))
	heir := startHeir(t, file, "trap '' TERM")
	start := time.Now()
	lock, err := lockTarget(t.Context(), dir, target(t, "/b/home"), "next", 0)
	if err != nil {
		t.Fatal(err)
	}
	lock.release()
	if took := time.Since(start); took < orphanGrace || heir.running() {
		t.Errorf("after %v, running: %t", took, heir.running())
	}
}

const dyingEnv = "RSINCE_TEST_DYING"

// A process with dyingEnv locks a target as a run does, and then is as one that was killed while it syncs:
// its main thread has ended, another one goes on for two seconds.
func init() {
	dir := os.Getenv(dyingEnv)
	if dir == "" {
		return
	}
	t, err := profile.ParseTarget("/b/home")
	if err == nil {
		_, err = lockTarget(context.Background(), dir, t, "dying", 0)
	}
	if err != nil {
		os.Exit(1)
	}
	signal.Ignore(unix.SIGTERM)
	go func() {
		time.Sleep(2 * time.Second)
		os.Exit(0)
	}()
	fmt.Println("locked")
	_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0) // init runs on the main thread
}

// TestDying has a run find the lock of one that was killed and is not quite gone.
func TestDying(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two seconds")
	}
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), dyingEnv+"="+dir)
	start(t, cmd)
	file := lockPath(dir, targetWay("/b/home"))
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if why, err := signature(file).Owner.Ended(); why != "" && err == nil {
			break
		}
	}
	lock, err := lockTarget(t.Context(), dir, target(t, "/b/home"), "next", 0)
	if err != nil {
		t.Fatal(err)
	}
	lock.release()
}

// TestBystanders only have the lock open, as a run that waits for it does.
func TestBystanders(t *testing.T) {
	dir := t.TempDir()
	file := lockPath(dir, targetWay("/b/home"))
	write(t, file, "")
	cmd := exec.Command("sh", "-c", "exec 9<"+file+"; echo; exec sleep 60")
	waiting := start(t, cmd)
	heir := startHeir(t, file)
	lock, err := lockTarget(t.Context(), dir, target(t, "/b/home"), "next", 0)
	if err != nil {
		t.Fatal(err)
	}
	lock.release()
	if heir.running() || !waiting.running() {
		t.Errorf("heir %t, who waits %t", heir.running(), waiting.running())
	}
}

func FuzzExclusiveTaker(f *testing.F) {
	f.Add("pos:	0\nflags:	0100001\nmnt_id:	27\nino:	10010931\nlock:	1: FLOCK  ADVISORY  WRITE 26031 fe:00:10010931 0 EOF\n")
	f.Add("lock:	1: FLOCK  ADVISORY  READ 26031 fe:00:10010931 0 EOF\n")
	f.Add("lock:	1: POSIX  ADVISORY  WRITE 26031 fe:00:10010931 0 EOF\nlock: 2: FLOCK ADVISORY WRITE x")
	f.Fuzz(func(t *testing.T, fdinfo string) {
		pid, ok := exclusiveTaker(fdinfo)
		if ok && (!strings.Contains(fdinfo, "FLOCK") || !strings.Contains(fdinfo, "WRITE")) {
			t.Errorf("%d from %q", pid, fdinfo)
		}
	})
}

func TestExclusiveTaker(t *testing.T) {
	const line = "ino:	1\nlock:	1: FLOCK  ADVISORY  WRITE 26031 fe:00:10010931 0 EOF\n"
	if pid, ok := exclusiveTaker(line); pid != 26031 || !ok {
		t.Errorf("got %d, %t", pid, ok)
	}
	for _, other := range []string{"", "ino:	1\n", strings.ReplaceAll(line, "WRITE", "READ"), strings.ReplaceAll(line, "FLOCK", "POSIX")} {
		if pid, ok := exclusiveTaker(other); ok {
			t.Errorf("%q: %d", other, pid)
		}
	}
}

// heir is a process that inherited a lock.
type heir struct {
	exited chan struct{}
}

func (h heir) running() bool {
	select {
	case <-h.exited:
		return false
	case <-time.After(100 * time.Millisecond): // it may be about to end
		return true
	}
}

// startHeir has flock(1) lock the file and end, and returns who inherited the lock.
func startHeir(t *testing.T, file string, before ...string) heir {
	t.Helper()
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("flock is not installed")
	}
	script := strings.Join(before, "; ") + "\nexec 9>>" + file + "; flock -x 9; echo; exec sleep 60" // sleep ignores what the shell ignored
	return start(t, exec.Command("sh", "-c", script))
}

// start starts a process that prints a line when it is ready.
func start(t *testing.T, cmd *exec.Cmd) heir {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := heir{make(chan struct{})}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	go func() {
		defer close(h.exited)
		_ = cmd.Wait() // it is killed
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGKILL)
		<-h.exited
	})
	return h
}

// signedBy signs a lock as the run of owner did.
func signedBy(t *testing.T, owner logs.Owner, target string) func(file string) {
	return func(file string) {
		data, err := json.Marshal(Holder{Owner: owner, Profile: "dead", Target: target, Since: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, string(data))
	}
}

func target(t *testing.T, s string) profile.Target {
	t.Helper()
	parsed, err := profile.ParseTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
