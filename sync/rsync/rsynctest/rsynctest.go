// Package rsynctest starts the servers that rsync can copy to, an sshd and an rsync daemon, on the
// loopback interface, for tests. Each lives in a temporary directory and ends with the test.
package rsynctest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// SSH is an sshd that lets the present user in by key.
type SSH struct {
	// Host is user@127.0.0.1, to be put before ":/path".
	Host string
	// Shell is the remote shell command that finds the server: the value of rsync's --rsh.
	Shell string
}

// StartSSH starts an sshd, or skips the test when there is none. sshd wants root to log a user in.
func StartSSH(t testing.TB) SSH {
	t.Helper()
	sshd := program(t, "sshd")
	program(t, "ssh")
	if os.Geteuid() != 0 {
		t.Skip("sshd needs root")
	}
	// sshd refuses to start without its directory for privilege separation.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	hostKey, userKey := newKey(t, dir, "host"), newKey(t, dir, "user")
	port := freePort(t)
	config := filepath.Join(dir, "sshd_config")
	// With SHLVL bash does not take itself for a login over the network and leaves out ~/.bashrc,
	// which is the user's and may take long.
	writeFile(t, config, fmt.Sprintf(`ListenAddress 127.0.0.1:%d
HostKey %s
AuthorizedKeysFile %s.pub
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
LogLevel ERROR
SetEnv SHLVL=2
`, port, hostKey, userKey))
	start(t, port, sshd, "-D", "-e", "-f", config)

	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	client := filepath.Join(dir, "ssh_config")
	writeFile(t, client, fmt.Sprintf(`Host 127.0.0.1
Port %d
IdentityFile %s
IdentitiesOnly yes
UserKnownHostsFile /dev/null
StrictHostKeyChecking no
LogLevel ERROR
BatchMode yes
`, port, userKey))
	return SSH{Host: me.Username + "@127.0.0.1", Shell: "ssh -F " + client}
}

// StartDaemon starts an rsync daemon with a writable module named "backup" at dir, with further
// lines for the module's configuration, and returns the module's URL, without a slash at the end.
func StartDaemon(t testing.TB, dir string, lines ...string) string {
	t.Helper()
	rsync := program(t, "rsync")
	port := freePort(t)
	config := filepath.Join(t.TempDir(), "rsyncd.conf")
	var b bytes.Buffer
	fmt.Fprintf(&b, "use chroot = no\nmunge symlinks = no\n[backup]\npath = %s\nread only = no\n", dir)
	if os.Geteuid() == 0 {
		b.WriteString("uid = 0\ngid = 0\n")
	}
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	writeFile(t, config, b.String())
	start(t, port, rsync, "--daemon", "--no-detach", "--address=127.0.0.1", "--config="+config, "--port="+strconv.Itoa(port),
		"--log-file="+filepath.Join(filepath.Dir(config), "log"))
	return fmt.Sprintf("rsync://127.0.0.1:%d/backup", port)
}

// start runs a server until the test ends and returns when it accepts connections.
func start(t testing.TB, port int, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-exited
	})
	deadline := time.Now().Add(10 * time.Second)
	for {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = conn.Close() // nothing was said on it
			return
		}
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("%s ended: %v: %s", name, err, said.String())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %v", name, err)
		}
	}
}

// program returns the path of a program that may be in a directory for administrators.
func program(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path := filepath.Join("/usr/sbin", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// freePort returns a port that nobody listens on just now.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func newKey(t testing.TB, dir, name string) string {
	t.Helper()
	key := filepath.Join(dir, name)
	out, err := exec.Command(program(t, "ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput()
	if err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	return key
}

func writeFile(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
