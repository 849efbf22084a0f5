package testscripts

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// watcherProcess is the `rsince watch` of one script; the zero value has none.
type watcherProcess struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

type watcherKey struct{}

// watcher starts and ends `rsince watch`.
//
//	watcher start [ARG...]   returns when something is being watched
//	watcher stop             by SIGTERM; fails unless it ends with 0. What it said is then in the file watcher.stderr
//	watcher kill             by SIGKILL
//	watcher hangup           SIGHUP
func watcher(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: watcher start|stop|kill|hangup")
	}
	w := ts.Value(watcherKey{}).(*watcherProcess)
	switch {
	case args[0] == "start":
		w.start(ts, args[1:])
		return
	case w.cmd == nil:
		ts.Fatalf("no watcher is running")
	}
	switch args[0] {
	case "hangup":
		ts.Check(w.cmd.Process.Signal(unix.SIGHUP))
	case "stop":
		ts.Check(w.end(unix.SIGTERM))
		ts.Check(os.WriteFile(ts.MkAbs("watcher.stderr"), w.stderr.Bytes(), 0o644))
	case "kill":
		_ = w.end(unix.SIGKILL)
	default:
		ts.Fatalf("watcher: %q is not start, stop, kill or hangup", args[0])
	}
}

// watcherStarts is how long a watcher may take to watch the small trees of scripts.
const watcherStarts = 20 * time.Second

func (w *watcherProcess) start(ts *testscript.TestScript, args []string) {
	if w.cmd != nil {
		ts.Fatalf("a watcher is running already")
	}
	args = append([]string{"watch", ts.Getenv("C"), ts.Getenv("S")}, args...)
	w.cmd = exec.Command(lookPath(ts, "rsince"), args...)
	w.cmd.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"))
	w.cmd.Dir = ts.MkAbs(".")
	w.stderr.Reset()
	w.cmd.Stderr = &w.stderr
	stdout, err := w.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(w.cmd.Start())
	ts.Defer(func() {
		if w.cmd != nil {
			_ = w.end(unix.SIGKILL)
		}
	})
	late := time.AfterFunc(watcherStarts, func() { _ = w.cmd.Process.Kill() })
	defer late.Stop()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "watching ") {
		_ = w.end(unix.SIGKILL)
		ts.Fatalf("the watcher did not start: %v\n%s%s", err, line, w.stderr.Bytes())
	}
	ts.Logf("%s", line)
}

func (w *watcherProcess) end(how unix.Signal) error {
	_ = w.cmd.Process.Signal(how)
	err := w.cmd.Wait()
	w.cmd = nil
	return err
}

// lookPath finds a program in the script's own PATH.
func lookPath(ts *testscript.TestScript, program string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, program)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	ts.Fatalf("no %s in PATH", program)
	return ""
}
