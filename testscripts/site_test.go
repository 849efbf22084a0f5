package testscripts

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A site is a directory with a source (src), a directory beside it and whatever rsince needs to copy
// it somewhere. A failed test leaves it behind.
type site struct {
	t       *testing.T
	dir     string
	program string
	user    *syscall.Credential // nil: who runs the test
	env     []string            // of rsince, besides that of the test

	watcher *exec.Cmd
}

// newSite makes a site. With a uid other than 0 everything in it belongs to that user, who also runs
// rsince.
func newSite(t *testing.T, uid uint32) *site {
	t.Helper()
	return newSiteIn(t, "", uid)
}

// newSiteIn makes a site in a directory; "" is that of temporary files.
func newSiteIn(t *testing.T, parent string, uid uint32) *site {
	t.Helper()
	dir, err := os.MkdirTemp(parent, "rsince-site-")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: dir}
	t.Cleanup(s.clean)
	if s.program, err = exec.LookPath("rsince"); err != nil {
		t.Fatal(err)
	}
	if uid != 0 {
		s.user = &syscall.Credential{Uid: uid, Gid: uid}
		// The test's own directories are closed to others.
		s.must(os.MkdirAll(dir+"/bin", 0o755))
		s.must(exec.Command("cp", s.program, dir+"/bin/rsince").Run())
		s.program = dir + "/bin/rsince"
	}
	for _, sub := range []string{"src", "beside", "foreign", "etc", "state", "dst"} {
		s.must(os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	s.must(os.WriteFile(dir+"/foreign/a", []byte("untouched"), 0o644))
	return s
}

// give makes everything in the site the user's.
func (s *site) give() {
	s.must(os.Chmod(s.dir, 0o755))
	if s.user != nil {
		s.must(exec.Command("chown", "-Rh", fmt.Sprintf("%d:%d", s.user.Uid, s.user.Gid), s.dir).Run())
	}
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) clean() {
	s.endWatcher(unix.SIGKILL)
	for _, pid := range s.processes() {
		s.t.Errorf("process %d was left running: %s", pid, commandLine(pid))
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	if s.t.Failed() {
		s.t.Logf("kept: %s", s.dir)
		return
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Error(err)
	}
}

// profile writes a profile with the site's source.
func (s *site) profile(name, target string, more ...string) {
	text := fmt.Sprintf("source = %q\ntarget = %q\nstall = \"10s\"\nmax_delete = \"1000000\"\n[priority]\nnice = 0\nio = \"none\"\n%s\n",
		s.dir+"/src", target, strings.Join(more, "\n"))
	s.must(os.WriteFile(filepath.Join(s.dir, "etc", name+".toml"), []byte(text), 0o644))
}

func (s *site) command(ctx context.Context, args ...string) *exec.Cmd {
	args = append([]string{"--config", s.dir + "/etc", "--state-dir", s.dir + "/state"}, args...)
	cmd := exec.CommandContext(ctx, s.program, args...)
	cmd.Env = append(os.Environ(), append(s.env, "HOME="+s.dir)...)
	cmd.Dir = s.dir
	if s.user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.user}
	}
	return cmd
}

// startWatcher returns when all profiles are being watched.
func (s *site) startWatcher(profiles ...string) {
	s.t.Helper()
	s.watcher = s.command(context.Background(), append([]string{"watch"}, profiles...)...)
	stderr, err := os.OpenFile(s.watcherLog(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	s.must(err)
	defer stderr.Close()
	s.watcher.Stderr = stderr
	out, err := s.watcher.StdoutPipe()
	s.must(err)
	s.must(s.watcher.Start())
	pid := s.watcher.Process.Pid
	late := time.AfterFunc(60*time.Second, func() { _ = unix.Kill(pid, unix.SIGQUIT) })
	defer late.Stop()
	lines := bufio.NewReader(out)
	for range profiles {
		if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, "watching ") {
			s.endWatcher(unix.SIGKILL)
			s.t.Fatalf("the watcher did not start: %q, %v\n%s", line, err, s.watcherSaid())
		}
	}
}

func (s *site) watcherLog() string { return s.dir + "/watcher.log" }

// watcherSaid returns what all watchers of the site have said so far.
func (s *site) watcherSaid() string {
	text, _ := os.ReadFile(s.watcherLog())
	return string(text)
}

func (s *site) endWatcher(how unix.Signal) {
	if s.watcher == nil {
		return
	}
	_ = s.watcher.Process.Signal(how)
	_ = s.watcher.Wait()
	s.watcher = nil
}

// A result is what became of one `rsince sync`: its record is that of rsince runs --json.
type result struct {
	State, Mode, Reason, Backend, Message string
	Listed, Errors, Missed, Bytes         int
	PendingAfter                          int `json:"pending_after"`

	code   int // -1: killed
	stderr string
}

// longestRun is how long a run may take: a hung rsync is ended after ten seconds without progress.
const longestRun = 60 * time.Second

// sync runs a profile, calling started with the number of the process.
func (s *site) sync(started func(pid int), args ...string) result {
	s.t.Helper()
	cmd := s.command(context.Background(), append([]string{"sync", "--json"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // an rsync that outlives the run has its standard error, not ours
	s.must(cmd.Start())
	late := time.AfterFunc(longestRun, func() {
		s.t.Errorf("the run takes longer than %v\n%s", longestRun, s.diagnose())
		_ = cmd.Process.Signal(unix.SIGQUIT) // it writes its stacks
	})
	if started != nil {
		started(cmd.Process.Pid)
	}
	err := cmd.Wait()
	late.Stop()
	r := result{code: cmd.ProcessState.ExitCode(), stderr: stderr.String()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		s.t.Fatalf("sync: %v", err)
	}
	if stdout.Len() > 0 {
		s.must(json.Unmarshal(stdout.Bytes(), &r))
	}
	return r
}

// output returns what a command says, for the report of a failed test.
func (s *site) output(args ...string) string {
	out, err := s.command(context.Background(), args...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s%v", out, err)
	}
	return string(out)
}

// processes lists those that have to do with the site, except the watcher.
func (s *site) processes() []int {
	var found []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() || s.watcher != nil && pid == s.watcher.Process.Pid {
			continue
		}
		if s.concerns(pid) && !strings.HasPrefix(commandLine(pid), "rsync --daemon") {
			found = append(found, pid)
		}
	}
	return found
}

// concerns reports whether a process was given a path in the site, or is a descendant of one that has its home there.
func (s *site) concerns(pid int) bool {
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return strings.Contains(commandLine(pid), s.dir+"/") || strings.Contains(string(env), "HOME="+s.dir+"\x00")
}

func commandLine(pid int) string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.ReplaceAll(string(line), "\x00", " ")
}

// diagnose tells what the site's processes are doing.
func (s *site) diagnose() string {
	var b strings.Builder
	for _, pid := range s.processes() {
		fmt.Fprintf(&b, "%d %.300s\n", pid, commandLine(pid))
		for _, file := range []string{"wchan", "syscall", "stack", "io"} {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
			fmt.Fprintf(&b, "\t%s: %s\n", file, strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", " "))
		}
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			to, _ := os.Readlink(fd)
			fmt.Fprintf(&b, "\t%s -> %s\n", filepath.Base(fd), to)
		}
	}
	return b.String()
}

// equal fails the test if source and target differ.
func (s *site) equal(profile, target string) {
	s.t.Helper()
	if report := s.unlike(profile, target); report != "" {
		s.t.Error(report)
	}
}

// unlike tells what differs between source and target, and what rsince makes of it; nothing is "".
func (s *site) unlike(profile, target string) string {
	s.t.Helper()
	lines := differences(s.t, s.dir+"/src", target)
	if len(lines) == 0 {
		return ""
	}
	const shown = 25
	more := max(0, len(lines)-shown)
	return fmt.Sprintf("%s: source and target differ:\n%s\n(and %d more)\nchanges:\n%s\nruns:\n%s\nwatcher:\n%s", profile,
		strings.Join(lines[:len(lines)-more], "\n"), more,
		s.output("changes", "--json", profile), s.output("runs", "--json", "--limit", "5", profile), s.watcherSaid())
}

// complete runs a profile until nothing is left, and compares. A second run is in order only after a partial
// one.
func (s *site) complete(profile, target string) (trouble string) {
	s.t.Helper()
	if s.watcher == nil {
		s.startWatcher(profile)
	}
	r := s.sync(nil, profile)
	if r.code == 3 {
		r = s.sync(nil, profile)
	}
	if r.State != "ok" {
		return fmt.Sprintf("the next run: %+v", r)
	}
	return s.unlike(profile, target)
}

// untouched fails the test if something was written where only symlinks of the target lead.
func (s *site) untouched() {
	s.t.Helper()
	entries, err := os.ReadDir(s.dir + "/foreign")
	text, readErr := os.ReadFile(s.dir + "/foreign/a")
	if err != nil || readErr != nil || len(entries) != 1 || string(text) != "untouched" {
		s.t.Errorf("something was written outside the target: %v, %q, %v", entries, text, errors.Join(err, readErr))
	}
}
