package changes

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// say writes to the watcher what no client of ours would, and returns its answer.
func say(t *testing.T, socket, text string) string {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	do(t, err)
	defer conn.Close()
	_, _ = io.WriteString(conn, text) // it may hang up in the middle
	_ = conn.(*net.UnixConn).CloseWrite()
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	answer, _ := io.ReadAll(conn) // a reset, when it did not read all
	return string(answer)
}

func TestSocketSurvivesBadClients(t *testing.T) {
	r := startRunning(t, "home")
	tests := []struct{ name, text, want string }{
		{"nothing", "", "reading the request"},
		{"half a request", `{"op":"cu`, "reading the request"},
		{"rubbish", "\x00\xff\n\n", "reading the request"},
		{"another type", `{"op":17}`, "reading the request"},
		{"an unknown operation", `{"op":"drop","profile":"home"}`, "unknown request"},
		{"an unknown profile", `{"op":"cut","profile":"../home"}`, `"unwatched":true`},
		{"two requests", `{"op":"status"}{"op":"status"}`, `"fake"`},
	}
	for _, tt := range tests {
		if got := say(t, r.socket, tt.text); !strings.Contains(got, tt.want) {
			t.Errorf("%s: answer %q, want %q", tt.name, got, tt.want)
		}
	}
	for _, huge := range []string{`{"op":"` + strings.Repeat("x", 10<<20), strings.Repeat(" ", 10<<20), strings.Repeat("[", 1<<20)} {
		if got := say(t, r.socket, huge); strings.Contains(got, "fake") {
			t.Errorf("huge request: %q", got)
		}
	}
	if b := r.cut(t, "home"); b.Watch.Backend != "fake" {
		t.Errorf("cut after all that: %+v", b)
	}
}

func TestSocketClientThatHangs(t *testing.T) {
	r := startRunning(t, "home")
	for _, text := range []string{"", `{"op":`, `{"op":"status"}`} {
		conn, err := net.Dial("unix", r.socket)
		do(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, text)
		do(t, err)
	}
	start := time.Now()
	r.cut(t, "home")
	do(t, r.stop())
	if took := time.Since(start); took > requestWithin {
		t.Errorf("cut and end took %v", took)
	}
}

func TestSocketRefusesOtherUsers(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	r := startRunning(t, "home")
	do(t, os.Chmod(r.home, 0o755))
	do(t, os.Chmod(filepath.Dir(r.home), 0o755))
	self := filepath.Join(r.home, "self")
	copyTo(t, self)
	ask := func(uid uint32) (string, error) {
		cmd := exec.Command(self)
		cmd.Env = []string{childEnv + "=ask:" + r.socket}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if info, err := os.Stat(r.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", info.Mode(), err)
	}
	if out, err := ask(0); err != nil || !strings.Contains(out, "1 profiles") {
		t.Errorf("root: %s, %v", out, err)
	}
	if out, err := ask(65534); err == nil || !strings.Contains(out, "permission denied") {
		t.Errorf("another user: %s, %v", out, err)
	}
	do(t, os.Chmod(r.socket, 0o666))
	if out, err := ask(65534); err == nil || !strings.Contains(out, "uid 65534 may not ask") {
		t.Errorf("another user past the mode: %s, %v", out, err)
	}
}

// copyTo puts the test binary where everybody may run it.
func copyTo(t *testing.T, path string) {
	t.Helper()
	binary, err := os.Executable()
	do(t, err)
	data, err := os.ReadFile(binary)
	do(t, err)
	do(t, os.WriteFile(path, data, 0o755))
}

func TestSocketOfADeadWatcher(t *testing.T) {
	r := newRunning(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.socket, Net: "unix"})
	do(t, err)
	l.SetUnlinkOnClose(false)
	do(t, l.Close())
	if b := r.cut(t, "home"); b.Watch.Backend != "" {
		t.Errorf("a dead watcher answered: %+v", b)
	}
	r.run(t, []Watched{r.watched(t, "home")})
	r.waitReady(t, "home")
	if b := r.cut(t, "home"); b.Watch.Backend != "fake" {
		t.Errorf("the living one did not: %+v", b)
	}
	second := &Watcher{Backends: []Backend{r.backend}, Socket: r.socket}
	if err := second.Run(t.Context(), []Watched{r.watched(t, "two")}, nil, nil); err == nil || !strings.Contains(err.Error(), "another watcher") {
		t.Errorf("a second watcher: %v", err)
	}
	if b := r.cut(t, "home"); b.Watch.Backend != "fake" {
		t.Errorf("after the second was refused: %+v", b)
	}
	do(t, r.stop())
	if _, err := os.Lstat(r.socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// Who is interrupted while he waits for an answer has not found out that there is none.
func TestSocketInterrupted(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "watch.sock")
	l, err := net.Listen("unix", socket)
	do(t, err)
	defer l.Close()
	accepted := make(chan net.Conn, 2)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	for name, call := range map[string]func(context.Context) error{
		"cut":    func(ctx context.Context) error { _, err := Cut(ctx, socket, t.TempDir(), "home"); return err },
		"settle": func(ctx context.Context) error { return Settle(ctx, socket, "home") },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { defer (<-accepted).Close(); time.Sleep(50 * time.Millisecond); cancel(); <-t.Context().Done() }()
		if err := call(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, ErrSilent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	j, err := Open(dir)
	do(t, err)
	defer j.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	if _, err := Cut(ctx, filepath.Join(dir, "none"), dir, "home"); !errors.Is(err, context.Canceled) {
		t.Errorf("a journal that has another writer: %v", err)
	}
}

func TestSocketPaths(t *testing.T) {
	long := strings.Repeat("d", 100)
	for _, path := range []string{
		strings.Repeat("d", 80) + "/watch.sock",
		long + "/" + long + "/" + long + "/watch.sock",
		"@at/watch.sock",
	} {
		t.Run(path[:10], func(t *testing.T) {
			r := newRunning(t)
			t.Chdir(r.home)
			r.socket = path
			r.run(t, []Watched{r.watched(t, "home")})
			r.waitReady(t, "home")
			if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeSocket || info.Mode().Perm() != 0o600 {
				t.Errorf("socket %v, %v", info, err)
			}
			if b := r.cut(t, "home"); b.Watch.Backend != "fake" {
				t.Errorf("cut: %+v", b)
			}
			do(t, r.stop())
			if _, err := os.Lstat(path); !os.IsNotExist(err) {
				t.Errorf("the socket is still there: %v", err)
			}
		})
	}
}
