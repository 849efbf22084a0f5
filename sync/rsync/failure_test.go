package rsync

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/testscripts/disk"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// asNobody makes e's rsync run without privilege.
func asNobody(t *testing.T, e *Engine) {
	t.Helper()
	needRoot(t)
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip(err)
	}
	script := "#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups rsync \"$@\"\n"
	e.Program = filepath.Join(filepath.Dir(e.Source), "unprivileged")
	if err := os.WriteFile(e.Program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(e.Source); dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(e.Target, 65534, 65534); err != nil {
		t.Fatal(err)
	}
}

func mount(t *testing.T, source, dir, kind string, flags uintptr, data string) {
	t.Helper()
	needRoot(t)
	if err := unix.Mount(source, dir, kind, flags, data); err != nil {
		t.Skipf("mounting %s: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func failedPaths(res Result) []string {
	var paths []string
	for _, f := range res.Failed {
		paths = append(paths, f.Path)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

func target(t *testing.T, e *Engine, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(e.Target, name))
	if err != nil {
		return err.(*os.PathError).Err.Error()
	}
	return string(content)
}

// A file that cannot be read, and a directory that cannot be listed, are failed paths, and what is extraneous
// elsewhere is deleted all the same.
func TestUnreadable(t *testing.T) {
	passes := map[string]func(e *Engine) (Result, error){
		"full":     func(e *Engine) (Result, error) { return e.Full(t.Context(), true) },
		"subtrees": func(e *Engine) (Result, error) { return e.Subtrees(t.Context(), []string{"a", "b", "no[d]", "no\"f"}) },
		"directories": func(e *Engine) (Result, error) {
			return e.Directories(t.Context(), []string{"a", "b", "no[d]", "."}, true)
		},
	}
	for name, pass := range passes {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t) // another user cannot reach what this process holds
			asNobody(t, e)
			write(t, e.Source, "a/f=1", "no[d]/f=1", "no\"f=1", "b/f=1")
			write(t, e.Target, "a/extra=1", "b/extra=1", "no[d]/f=old", "no\"f=old")
			chown(t, e.Target, 65534)
			for _, name := range []string{"no[d]", "no\"f"} {
				if err := os.Chmod(filepath.Join(e.Source, name), 0); err != nil {
					t.Fatal(err)
				}
			}
			res, err := pass(e)
			if err != nil {
				t.Fatal(err)
			}
			if got := failedPaths(res); !slices.Equal(got, []string{"no\"f", "no[d]"}) {
				t.Errorf("failed %q", got)
			}
			if target(t, e, "a/extra") != "no such file or directory" || target(t, e, "b/extra") != "no such file or directory" {
				t.Error("an extraneous file is still there")
			}
			if target(t, e, "no[d]/f") != "old" || target(t, e, "no\"f") != "old" {
				t.Error("what could not be read was deleted")
			}
		})
	}
}

func chown(t *testing.T, root string, uid int) {
	t.Helper()
	err := filepath.Walk(root, func(name string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Lchown(name, uid, uid))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Things on the target that cannot be replaced are failed paths with their names in the source,
// however rsync calls them.
func TestTargetRefuses(t *testing.T) {
	needRoot(t)
	e := newHeldEngine(t)
	long := strings.Repeat("x", 255)
	names := []string{"deep/dir/\"q\" -> \"r", "deep/dir/plain", ".dot", "deep/dir/" + long, "gone/f", "l"}
	for _, name := range names[:4] {
		write(t, e.Source, name+"=new")
		write(t, e.Target, name+"=old")
	}
	write(t, e.Source, "typechange=new", "fine=new", "fixed/sub/f=new")
	write(t, e.Target, "typechange/kept.o=1", "gone/f=1", "fixed/")
	e.Filters = []string{"--filter=- *.o"}
	if err := os.Symlink("\" -> \"", filepath.Join(e.Source, "l")); err != nil {
		t.Fatal(err)
	}
	write(t, e.Target, "l=1")
	for _, name := range append(names, "fixed") {
		immutable(t, filepath.Join(e.Target, name))
	}
	res, err := e.Paths(t.Context(), append([]string{"typechange", "fine", "fixed/sub", "fixed/sub/f"}, append(names[:4:4], "l")...), true)
	if err != nil {
		t.Fatal(err)
	}
	want := append([]string{"typechange", "fixed", "fixed/sub", "fixed/sub/f", "l"}, names[:4]...)
	slices.Sort(want)
	if got := failedPaths(res); !slices.Equal(got, want) {
		t.Errorf("failed %q\n  want %q", got, want)
	}
	if target(t, e, "fine") != "new" || res.Done != 1 {
		t.Errorf("the others did not arrive: %+v", res)
	}
	res, err = e.Deletions(t.Context(), []string{"gone"})
	if got := failedPaths(res); err != nil || !slices.Contains(got, "gone/f") {
		t.Errorf("deleting: failed %q, %v", got, err)
	}
}

func immutable(t *testing.T, name string) {
	t.Helper()
	if out, err := exec.Command("chattr", "+i", name).CombinedOutput(); err != nil {
		t.Skipf("chattr: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("chattr", "-i", name).CombinedOutput(); err != nil {
			t.Errorf("chattr: %v: %s", err, out)
		}
	})
}

func TestTargetAsAWhole(t *testing.T) {
	paths := []string{"a", "b"}
	t.Run("full", func(t *testing.T) {
		e := newEngine(t)
		mount(t, "tmpfs", e.Target, "tmpfs", 0, "size=64k")
		large := strings.Repeat("x", 1<<20)
		write(t, e.Source, "a="+large, "b=1")
		for name, pass := range map[string]func() (Result, error){
			"list": func() (Result, error) { return e.Paths(t.Context(), paths, true) },
			"full": func() (Result, error) { return e.Full(t.Context(), true) },
		} {
			res, err := pass()
			if err != nil || len(res.Failed) != 1 || res.Failed[0].Path != "a" || !res.Failed[0].NoRoom() || target(t, e, "b") != "1" {
				t.Errorf("%s: %+v, %v", name, res, err)
			}
		}
	})
	t.Run("read-only", func(t *testing.T) {
		e := newEngine(t)
		mount(t, "tmpfs", e.Target, "tmpfs", unix.MS_RDONLY, "")
		write(t, e.Source, "a=1", "b=1")
		_, err := e.Paths(t.Context(), paths, true)
		if !errors.Is(err, ErrReadOnly) {
			t.Error(err)
		}
	})
	t.Run("read-only, and something in it is not", func(t *testing.T) {
		e := newEngine(t)
		mount(t, "tmpfs", e.Target, "tmpfs", 0, "")
		write(t, e.Target, "b/")
		mount(t, "tmpfs", filepath.Join(e.Target, "b"), "tmpfs", 0, "")
		if err := unix.Mount("", e.Target, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		write(t, e.Source, "a=1", "b/c=1")
		if _, err := e.Full(t.Context(), true); !errors.Is(err, ErrReadOnly) {
			t.Error(err)
		}
	})
	t.Run("source absent", func(t *testing.T) {
		e := newEngine(t)
		write(t, e.Target, "a=1", "b=1")
		if err := os.Remove(e.Source); err != nil {
			t.Fatal(err)
		}
		for _, pass := range []func() (Result, error){
			func() (Result, error) { return e.Paths(t.Context(), paths, true) },
			func() (Result, error) { return e.Directories(t.Context(), []string{"."}, true) },
			func() (Result, error) { return e.Deletions(t.Context(), paths) },
			func() (Result, error) { return e.Full(t.Context(), true) },
		} {
			if res, err := pass(); err == nil {
				t.Errorf("%+v and no error", res)
			}
		}
		if target(t, e, "a") != "1" {
			t.Error("deleted")
		}
	})
	t.Run("no rsync", func(t *testing.T) {
		e := newEngine(t)
		e.Program = "/nonexistent/rsync"
		if _, err := e.Full(t.Context(), true); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	t.Run("unreachable", func(t *testing.T) {
		e := newEngine(t)
		e.Target = "rsync://127.0.0.1:1/backup"
		if _, err := e.Full(t.Context(), true); !errors.Is(err, ErrUnreachable) {
			t.Error(err)
		}
	})
}

// slowly starts a copy of "a", which takes long, and "z", calls swap when it has begun, and returns how it ended.
func slowly(t *testing.T, ctx context.Context, e *Engine, swap func()) (Result, error) {
	t.Helper()
	return during(t, e, func() (Result, error) { return e.Paths(ctx, []string{"a", "z"}, true) }, swap)
}

// during is slowly with a pass of its own over "a", "z" and other names.
func during(t *testing.T, e *Engine, pass func() (Result, error), swap func()) (Result, error) {
	t.Helper()
	write(t, e.Source, "a="+strings.Repeat("x", 4<<20), "z=1")
	e.Options = []string{"--bwlimit=4m"}
	type end struct {
		res Result
		err error
	}
	ended := make(chan end, 1)
	go func() {
		res, err := pass()
		ended <- end{res, err}
	}()
	deadline := time.Now().Add(10 * time.Second)
	for {
		if begun, _ := filepath.Glob(filepath.Join(e.Target, ".a.*")); len(begun) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("rsync does not begin")
		}
		time.Sleep(5 * time.Millisecond)
	}
	swap()
	got := <-ended
	return got.res, got.err
}

// A regular file that becomes a device makes rsync end with code 2; the rest is tried again.
func TestFileBecomesDevice(t *testing.T) {
	t.Parallel()
	needRoot(t)
	e := newEngine(t)
	res, err := slowly(t, t.Context(), e, func() {
		z := filepath.Join(e.Source, "z")
		if err := errors.Join(os.Remove(z), unix.Mknod(z, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatalf("%+v, %v", res, err)
	}
	if d := differences(t, e); d != "" {
		t.Error(d)
	}
}

// A regular file that becomes a fifo makes the sender wait for ever in open(2). That is seen long before
// Stall is over, and rsync tried again.
func TestFileBecomesFifo(t *testing.T) {
	t.Parallel()
	e := newHeldEngine(t)
	e.Stall = 10 * time.Minute
	res, err := slowly(t, t.Context(), e, func() {
		z := filepath.Join(e.Source, "z")
		if err := errors.Join(os.Remove(z), unix.Mkfifo(z, 0o600)); err != nil {
			t.Error(err)
		}
	})
	if err != nil || len(res.Failed) > 0 || !isFifo(t, filepath.Join(e.Target, "z")) {
		t.Errorf("%+v, %v", res, err)
	}
	noTemporaryFiles(t, e)
}

func isFifo(t *testing.T, path string) bool {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Error(err)
	}
	return err == nil && info.Mode().Type() == os.ModeNamedPipe
}

// Somebody's lease lets nobody else open a file for 45 seconds (fcntl(2), F_SETLEASE). It alone fails.
func TestStall(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.Stall = time.Second
	write(t, e.Source, "a=1", "d/held=1", "z=1")
	f, err := os.OpenFile(filepath.Join(e.Source, "d/held"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	if res, err := e.Paths(t.Context(), []string{"d/held"}, true); err != nil || !slices.Equal(failedPaths(res), []string{"d/held"}) {
		t.Errorf("alone: %+v, %v", res, err)
	}
	for name, pass := range map[string]func() (Result, error){
		"list":    func() (Result, error) { return e.Paths(t.Context(), []string{"a", "d/held", "z"}, true) },
		"subtree": func() (Result, error) { return e.Subtrees(t.Context(), []string{"a", "d", "z"}) },
		"full":    func() (Result, error) { return e.Full(t.Context(), true) },
	} {
		res, err := pass()
		if err != nil || !slices.Equal(failedPaths(res), []string{"d/held"}) || target(t, e, "a") != "1" || target(t, e, "z") != "1" {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
		if err := os.RemoveAll(e.Target); err != nil {
			t.Error(err)
		}
		if err := os.Mkdir(e.Target, 0o755); err != nil {
			t.Error(err)
		}
	}
}

// Names that make rsync abort cost nobody else the copy.
func TestAbort(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{
		"conversation": "echo '=.d..t...... 0 4096 ./'; echo 'rsync error: error in rsync protocol data stream (code 12) at io.c(285) [sender=3.5.0]' >&2; exit 12",
		"other side":   "echo '=.d..t...... 0 4096 ./'; exit 16",
		"crash":        "kill -SEGV $$",
	} {
		t.Run(name, func(t *testing.T) { testAbort(t, end) })
	}
}

// testAbort has a list of names among which are bad ones copied by an rsync that comes to this end.
func testAbort(t *testing.T, end string) {
	e := newHeldEngine(t)
	e.Program = filepath.Join(filepath.Dir(e.Source), "rsync")
	script := `#!/bin/sh
list=$(mktemp)
cat >"$list"
if tr '\0' '\n' <"$list" | grep -qx './bad[0-9]*'; then
	rm "$list"
	` + end + `
fi
rsync "$@" <"$list"
status=$?
rm "$list"
exit $status
`
	if err := os.WriteFile(e.Program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprint("f", i))
	}
	names = append(names, "bad1", "bad2")
	for _, name := range names {
		write(t, e.Source, name+"=1")
	}
	res, err := e.Paths(t.Context(), names, true)
	if err != nil || !slices.Equal(slices.Sorted(slices.Values(failedPaths(res))), []string{"bad1", "bad2"}) || res.Done != 100 || res.Created != 100 {
		t.Errorf("%+v, %v", res, err)
	}
	res, err = e.Links(t.Context(), [][]string{{"bad1", "f1"}}, true)
	if err != nil || !slices.Equal(failedPaths(res), []string{"bad1", "f1"}) {
		t.Errorf("links: %+v, %v", res, err)
	}
	names = nil
	for i := range 100 {
		names = append(names, fmt.Sprint("bad", i))
	}
	if _, err := e.Paths(t.Context(), names, true); !errors.Is(err, ErrProtocol) {
		t.Errorf("everything is bad: %v", err)
	}
}

// Only a target on another machine can be out of reach.
func TestUnreachableHere(t *testing.T) {
	for _, exit := range []ExitError{
		{Code: codeStart}, {Code: codeSocket}, {Code: codeStream, Stderr: "rsync: " + neverAnswered}, {Code: codeShell}, {Code: codeCommand},
	} {
		if err := error(&exit); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%v", err)
		}
		here := exit
		here.local = true
		if err := error(&here); errors.Is(err, ErrUnreachable) {
			t.Errorf("here: %v", err)
		}
	}
}

// What a name that cannot be read keeps from being deleted elsewhere is deleted, or fails, also where rsync aborted before.
func TestUnreadableAfterAborts(t *testing.T) {
	names := []string{"a", "b", "c", "no"}
	for name, pass := range map[string]func(e *Engine) (Result, error){
		"subtrees":    func(e *Engine) (Result, error) { return e.Subtrees(t.Context(), names) },
		"directories": func(e *Engine) (Result, error) { return e.Directories(t.Context(), names, true) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			asNobody(t, e)
			script := `#!/bin/sh
if [ $(wc -l <"$0.aborted") -lt 3 ]; then
	echo >>"$0.aborted"
	echo '=.d..t...... 0 4096 ./'
	echo 'rsync error: error in rsync protocol data stream (code 12) at io.c(285) [sender=3.5.0]' >&2
	exit 12
fi
exec "$0.real" "$@"
`
			real := e.Program + ".real"
			if err := errors.Join(os.Rename(e.Program, real), os.WriteFile(e.Program, []byte(script), 0o755),
				os.WriteFile(e.Program+".aborted", nil, 0o644)); err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				write(t, e.Source, name+"/f=1")
				write(t, e.Target, name+"/extra=1")
			}
			chown(t, e.Target, 65534)
			if err := os.Chmod(filepath.Join(e.Source, "no"), 0); err != nil {
				t.Fatal(err)
			}
			res, err := pass(e)
			if got := failedPaths(res); err != nil || !slices.Equal(got, []string{"no"}) || res.Done != 3 {
				t.Errorf("%+v, %v", res, err)
			}
			for _, name := range names[:3] {
				if target(t, e, name+"/f") != "1" || target(t, e, name+"/extra") == "1" {
					t.Errorf("%s is not as in the source", name)
				}
			}
		})
	}
}

func FuzzParseSyscall(f *testing.F) {
	f.Add("257 0xffffff9c 0x7ffd0 0x0 0x0 0x0 0x0 0x7ffc0 0x7f12\n")
	f.Add("running\n")
	f.Add("-1 0x7ffc0 0x7f12\n")
	f.Fuzz(func(t *testing.T, text string) {
		number, _, ok := parseSyscall(text)
		if ok && !strings.Contains(text, fmt.Sprint(number)) {
			t.Errorf("%d from %q", number, text)
		}
	})
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := slowly(t, ctx, e, cancel)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	noTemporaryFiles(t, e)
}

func noTemporaryFiles(t *testing.T, e *Engine) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(e.Target, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// A remote shell that neither speaks nor ends.
func TestStallOfRemoteShell(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	write(t, e.Source, "f=1")
	shell := filepath.Join(filepath.Dir(e.Source), "shell")
	script := func(text string) {
		if err := os.WriteFile(shell, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	e.Target, e.Options, e.Stall = "host:/nowhere", []string{"--rsh=" + shell}, 500*time.Millisecond
	script("exec sleep 1000")
	if _, err := e.Full(t.Context(), true); !errors.Is(err, ErrStalled) {
		t.Error(err)
	}
	script("trap '' TERM; sleep 1000; sleep 1000")
	res, err := e.Links(t.Context(), [][]string{{"f"}}, true)
	if err != nil || !slices.Equal(failedPaths(res), []string{"f"}) || !res.Killed {
		t.Errorf("%+v, %v", res, err)
	}
}

// A slow copy is not a stalled one.
func TestSlowIsNotStalled(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.Stall = 2 * time.Second
	var last Progress
	e.Progress = func(p Progress) { last = p }
	write(t, e.Source, "a="+strings.Repeat("x", 4<<20), "b="+strings.Repeat("x", 1<<20))
	e.Options = []string{"--bwlimit=1500k"}
	started := time.Now()
	full(t, e)
	if time.Since(started) < e.Stall {
		t.Error("it was not slow")
	}
	if last.Percent < 50 || last.Bytes < 2<<20 || last.Rate < 100_000 {
		t.Errorf("%+v", last)
	}
}

func TestUnreachable(t *testing.T) {
	e := newEngine(t)
	e.Target, e.Options = "127.0.0.1:/nowhere", []string{"--rsh=ssh -o BatchMode=yes -p 1"}
	if _, err := e.Full(t.Context(), true); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	if err := e.SyncRemote(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
}

// An attribute that is too large for the target is one failed path, although ext4 says "no space left".
func TestLargeXattr(t *testing.T) {
	e := newEngine(t)
	mount(t, "tmpfs", e.Source, "tmpfs", 0, "")
	write(t, e.Source, "f=1", "g=1")
	if err := unix.Setxattr(filepath.Join(e.Source, "f"), "user.large", make([]byte, 60_000), 0); err != nil {
		t.Skip(err)
	}
	disk.On(t, e.Target, "ext4")
	res, err := e.Paths(t.Context(), []string{"f", "g"}, true)
	if err != nil || !slices.Equal(failedPaths(res), []string{"f"}) || target(t, e, "g") != "1" {
		t.Errorf("%+v, %v", res, err)
	}
}

// An ACL can be too large as well.
func TestLargeACL(t *testing.T) {
	e := newEngine(t)
	mount(t, "tmpfs", e.Source, "tmpfs", 0, "")
	write(t, e.Source, "f=1", "g=1")
	var acl strings.Builder
	for user := range 700 {
		fmt.Fprintf(&acl, "u:%d:r\n", 10_000+user)
	}
	cmd := exec.Command("setfacl", "-M", "-", filepath.Join(e.Source, "f"))
	cmd.Stdin = strings.NewReader(acl.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("setfacl: %v: %s", err, out)
	}
	disk.On(t, e.Target, "ext4")
	res, err := e.Paths(t.Context(), []string{"f", "g"}, true)
	if err != nil || !slices.Equal(failedPaths(res), []string{"f"}) || target(t, e, "f") != "1" || target(t, e, "g") != "1" {
		t.Errorf("%+v, %v", res, err)
	}
}

// What is mounted read-only inside the target fails, and holds up nothing else.
func TestReadOnlyInTarget(t *testing.T) {
	for how, flags := range map[string]uintptr{"a disk": 0, "the same disk": unix.MS_BIND} {
		t.Run(how, func(t *testing.T) {
			e := newEngine(t)
			write(t, e.Source, "a=1", "sub/dir/f=1", "sub/g=1", "z=1")
			write(t, e.Target, "sub/")
			sub := filepath.Join(e.Target, "sub")
			mount(t, sub, sub, "tmpfs", flags, "")
			write(t, e.Target, "sub/extra=1")
			if err := unix.Mount("", sub, "", unix.MS_REMOUNT|unix.MS_RDONLY|flags, ""); err != nil {
				t.Fatal(err)
			}
			for name, pass := range map[string]func() (Result, error){
				"list": func() (Result, error) {
					return e.Paths(t.Context(), []string{"a", "sub", "sub/dir", "sub/dir/f", "sub/g", "z"}, true)
				},
				"full":      func() (Result, error) { return e.Full(t.Context(), true) },
				"deletions": func() (Result, error) { return e.Deletions(t.Context(), []string{"sub/extra"}) },
			} {
				res, err := pass()
				outside := func(f Failure) bool { return !below(f.Path, "sub") && f.Path != "sub" }
				if err != nil || len(res.Failed) == 0 || slices.ContainsFunc(res.Failed, outside) {
					t.Errorf("%s: %+v, %v", name, res, err)
				}
			}
			if target(t, e, "a") != "1" || target(t, e, "z") != "1" {
				t.Error("the rest did not arrive")
			}
		})
	}
}

// TestRereadXattr has rsync say what it says of a file that goes, or whose long attribute does, when it has been
// listed.
func TestRereadXattr(t *testing.T) {
	for _, tt := range []struct {
		said             string
		failed, vanished []string
	}{
		{`rsync: [sender] get_xattr_data: lgetxattr("SOURCE/f","user.x",0) failed: No such file or directory (2)`, nil, []string{"f"}},
		{`rsync: [sender] get_xattr_data: lgetxattr("SOURCE/f","user.x",0) failed: No data available (61)`, []string{"f"}, nil},
		{`get_xattr_data: lgetxattr("SOURCE/f","user.x",50) returned 40`, []string{"f"}, nil},
		{`rsync warning: nothing else is said where the source keeps no attributes`, []string{"f"}, nil},
	} {
		e := newEngine(t)
		write(t, e.Source, "f=1")
		e.Program = filepath.Join(t.TempDir(), "rsync")
		script := fmt.Sprintf("#!/bin/sh\ncat >&2 <<'END'\n%s\nfailed to re-read xattr user.x for f\nEND\nexit 23\n",
			strings.ReplaceAll(tt.said, "SOURCE", e.Source))
		if err := os.WriteFile(e.Program, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		res, err := e.Paths(t.Context(), []string{"f"}, true)
		if err != nil || !slices.Equal(failedPaths(res), tt.failed) || !slices.Equal(res.Vanished, tt.vanished) {
			t.Errorf("%s: %+v, %v", tt.said, res, err)
		}
	}
}

// What is mounted inside the source is no part of it, and what the target has there stays.
func TestOneFileSystem(t *testing.T) {
	for name, pass := range map[string]func(*Engine) (Result, error){
		"full":        func(e *Engine) (Result, error) { return e.Full(t.Context(), true) },
		"subtrees":    func(e *Engine) (Result, error) { return e.Subtrees(t.Context(), []string{"d"}) },
		"directories": func(e *Engine) (Result, error) { return e.Directories(t.Context(), []string{"d"}, true) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			e.OneFileSystem = true
			write(t, e.Source, "d/f=1", "d/m/")
			write(t, e.Target, "d/extra=1", "d/m/mine=1")
			mount(t, "tmpfs", filepath.Join(e.Source, "d/m"), "tmpfs", 0, "")
			write(t, e.Source, "d/m/theirs=1")
			run(t, func() (Result, error) { return pass(e) })
			if target(t, e, "d/f") != "1" || target(t, e, "d/extra") == "1" || target(t, e, "d/m/mine") != "1" || target(t, e, "d/m/theirs") == "1" {
				t.Error("the mount point was crossed")
			}
		})
	}
}
