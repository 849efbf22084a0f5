package testscripts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rsince/sync/rsync/rsynctest"
)

// What was missed is found over ssh and by a daemon as it is on this machine, and mended.
func TestVerifyElsewhere(t *testing.T) {
	s := newSite(t, 0)
	ssh := rsynctest.StartSSH(t)
	targets := map[string]string{"local": s.dir + "/dst", "ssh": s.dir + "/ssh", "daemon": s.dir + "/daemon"}
	s.must(errors.Join(os.Mkdir(targets["ssh"], 0o755), os.Mkdir(targets["daemon"], 0o755)))
	s.profile("local", targets["local"])
	s.profile("ssh", ssh.Host+":"+targets["ssh"])
	s.option("ssh", fmt.Sprintf("rsync_options = [%q]", "--rsh="+ssh.Shell))
	s.profile("daemon", rsynctest.StartDaemon(t, targets["daemon"], "use chroot = yes"))
	s.shell(s.dir+"/src", verifiedTree+"mknod dev c 1 3\nsetfacl -m u:55:r acl\nln hard link\nln hard link2")
	s.startWatcher("local", "ssh", "daemon")
	for name, target := range targets {
		s.syncs("ok", name)
		s.verifies(name, 0, "")
		s.shell(target, plantedDifferences+"chown 7:8 owner\nrm dev; mknod dev c 1 4\nsetfacl -b acl\ncp -p link l; mv l link")
		s.verifies(name, 3, expectedDifferences+"ACL acl|content, time dev|links link|owner, group owner")
		s.verifies(name, 3, expectedDifferences+"ACL acl|content, time dev|links link|owner, group owner|content same", "--checksum", "--repair")
		s.syncs("ok", name)
		s.equal(name, target)
		s.verifies(name, 0, "", "--checksum")
	}
}

// What somebody writes to in memory is pending: the next run copies it.
func TestVerifyMapped(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("looking at what others hold open needs root")
	}
	s := newSite(t, 0)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "fanotify"`)
	s.must(errors.Join(os.WriteFile(s.dir+"/src/mapped", make([]byte, 4096), 0o644), os.WriteFile(s.dir+"/src/missed", []byte("1"), 0o644)))
	s.startWatcher("p")
	s.syncs("ok", "p")
	mem := mapShared(t, s.dir+"/src/mapped")
	copy(mem, "stored")
	s.verifies("p", 0, "", "--checksum")
	s.shell(s.dir+"/dst", "echo 2 >missed")
	s.verifies("p", 3, "size, time missed", "--checksum")
	if v := s.verify("--checksum", "p"); !strings.Contains(v.stderr, "besides 1 pending") {
		t.Errorf("%+v", v)
	}
	s.syncs("ok", "p")
	copy(mem, "let go of")
	s.must(unix.Munmap(mem))
	s.verifies("p", 3, "size, time missed", "--checksum")
}

// A fifo is no socket, and a character device no block device, though rsync takes them for each other.
func TestVerifyTypes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making devices needs root")
	}
	s := newSite(t, 0)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "fanotify"`)
	s.option("p", `exclude = ["left"]`)
	const make = "mkfifo fifo pipe left; mknod char c 1 3; mknod other c 1 3; mknod block b 7 0; ln -s x link"
	s.shell(s.dir+"/src", make)
	s.startWatcher("p")
	s.syncs("ok", "p")
	s.shell(s.dir+"/dst", "rm *; "+make+"; rm fifo char block other left; mknod block c 7 0; mknod char b 1 3; mknod other c 1 5; echo 1 >left; touch -hr ../src *")
	s.must(unix.Mknod(s.dir+"/dst/fifo", unix.S_IFSOCK|0o644, 0))
	s.shell(s.dir, "for f in fifo pipe char other block link; do touch -hr src/$f dst/$f; done")
	s.verifies("p", 3, "type fifo|type char|type block|content other")
}

// So is it for a user without privilege, to whom owners and devices are no difference.
func TestVerifyAsUser(t *testing.T) {
	s := newSite(t, nobody)
	s.profile("local", s.dir+"/dst")
	s.shell(s.dir+"/src", verifiedTree)
	s.give()
	s.shell(s.dir+"/src", "chown 7:8 owner")
	s.startWatcher("local")
	s.syncs("ok", "local")
	s.verifies("local", 0, "")
	s.shell(s.dir+"/dst", plantedDifferences)
	s.shell(s.dir+"/dst", fmt.Sprintf("chown -hR %d:%[1]d .", nobody))
	s.verifies("local", 3, expectedDifferences+"content same", "--checksum", "--repair")
	s.syncs("ok", "local")
	s.verifies("local", 0, "", "--checksum")

	s.must(os.Chmod(s.dir+"/dst/sub", 0))
	s.must(os.Chown(s.dir+"/dst/sub", 1, 1))
	if r := s.verify("local"); r.code != 3 || !strings.Contains(r.stderr, "sub could not be compared: ") {
		t.Errorf("of a directory that cannot be read it says %+v", r)
	}
}

const verifiedTree = `
mkdir sub sub/gone kind
for f in size same acl mode xattr owner time kind/a sub/gone/x "$(printf 'line\nbreak')" "$(printf '\377')" ./-n '#n' '*'; do echo 1 >"$f"; done
touch -d 2021-01-01 same time
echo 1 >hard
mkfifo fifo
ln -s /to symlink
`

const plantedDifferences = `
echo longer >size
echo 2 >same; touch -r time same
chmod 600 mode
setfattr -n user.x -v y xattr
touch -r same x; touch -d 2020-01-01 time
rm kind/a; mkdir kind/a; echo x >kind/a/x
rm -r sub/gone
ln -sfn other symlink
rm fifo "$(printf 'line\nbreak')" "$(printf '\377')" ./-n '#n' '*'
mkdir extra; echo x >extra/x
`

const expectedDifferences = `type kind/a|missing on the target sub/gone|missing on the target "line\nbreak"|missing on the target "\xff"|` +
	`missing on the target -n|missing on the target #n|missing on the target *|missing on the target fifo|only on the target extra|` +
	`only on the target x|content, time symlink|size, time size|mode mode|xattrs xattr|time time|`

// shell runs a script in a directory.
func (s *site) shell(dir, script string) {
	s.t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
}

// A verdict is what `rsince verify` said.
type verdict struct {
	code           int
	stdout, stderr string
}

func (s *site) verify(args ...string) verdict {
	s.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), longestRun)
	defer stop()
	cmd := s.command(ctx, append([]string{"verify"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGQUIT) }
	_ = cmd.Run() // its exit code is looked at
	return verdict{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// verifies fails the test unless a verification ends with this code and these differences, in any order,
// with a | between them.
func (s *site) verifies(profile string, code int, want string, args ...string) {
	s.t.Helper()
	v := s.verify(append(args, profile)...)
	expected := map[string]bool{}
	for line := range strings.SplitSeq(want, "|") {
		expected[line] = line != ""
	}
	var unexpected []string
	for line := range strings.Lines(v.stdout) {
		line = strings.Join(strings.Fields(line), " ")
		if !expected[line] {
			unexpected = append(unexpected, line)
		}
		delete(expected, line)
	}
	delete(expected, "")
	if v.code != code || len(unexpected) > 0 || len(expected) > 0 {
		s.t.Errorf("%s %v: code %d, unexpected %q, missing %v, said %s", profile, args, v.code, unexpected, expected, v.stderr)
	}
}
