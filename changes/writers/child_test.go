package writers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

// childName is the environment variable that makes this program one of the children.
const childName = "RSINCE_TEST_CHILD"

// children are what the program does with its arguments before it says that it is ready. They hold
// something until standard input ends.
var children = map[string]func(args []string) error{
	"chroot":      chrooted,
	"contain":     contain,
	"many":        holdMany,
	"map":         mapFile,
	"path":        func(args []string) error { return openOnly(args[0], unix.O_PATH) },
	"stuck":       getStuck,
	"thread":      inThread,
	"dead leader": withoutLeader,
	"find":        printFound,
}

func TestMain(m *testing.M) {
	name := os.Getenv(childName)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := children[name](os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ready()
}

// ready says so, and ends with standard input.
func ready() {
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// hold runs a script in dir that goes on holding what it has opened. End ends it.
func hold(t testing.TB, dir, script string) (end func()) {
	t.Helper()
	cmd := exec.Command("bash", "-euc", script+"\necho ready; read || true")
	cmd.Dir = dir
	return start(t, cmd)
}

// child runs this program as one of the children.
func child(t testing.TB, attr *syscall.SysProcAttr, name string, args ...string) (end func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childName+"="+name, "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = attr
	return start(t, cmd)
}

// start runs a program until end is called, and waits for it to say that it is ready.
func start(t testing.TB, cmd *exec.Cmd) (end func()) {
	t.Helper()
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		in.Close()
		cmd.Wait()
	}
	t.Cleanup(end)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%v: not ready: %q, %v", cmd, line, err)
	}
	return end
}

func openOnly(path string, flags int) error {
	_, err := unix.Open(path, flags, 0)
	return err
}

// chrooted opens args[1] for writing with args[0] as its root.
func chrooted(args []string) error {
	if err := unix.Chroot(args[0]); err != nil {
		return err
	}
	return openOnly(args[1], unix.O_WRONLY)
}

// contain opens /volume/f for writing, where the directory args[0] is a tmpfs and the root, and
// /volume is args[1]. The process has to be in a mount namespace of its own.
func contain(args []string) error {
	for _, mount := range []struct {
		source, target, fsType string
		flags                  uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"tmpfs", args[0], "tmpfs", 0},
		{args[1], args[0] + "/volume", "", unix.MS_BIND},
	} {
		if err := os.MkdirAll(mount.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(mount.source, mount.target, mount.fsType, mount.flags, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", mount.target, err)
		}
	}
	if err := unix.Chdir(args[0]); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return openOnly("/volume/f", unix.O_WRONLY)
}

// mapFile maps a page of args[0] at a low address, which /proc writes with zeros in front, stores
// to it, and lets go of the descriptor. The words in args[1] say what is different.
func mapFile(args []string) error {
	flags, open := unix.MAP_SHARED, unix.O_RDWR
	protection := unix.PROT_READ | unix.PROT_WRITE
	if strings.Contains(args[1], "private") {
		flags = unix.MAP_PRIVATE
	}
	if strings.Contains(args[1], "readonly") {
		open, protection = unix.O_RDONLY, unix.PROT_READ
	}
	fd, err := unix.Open(args[0], open, 0)
	if err != nil {
		return err
	}
	const address = 0x100000
	_, _, errno := unix.Syscall6(unix.SYS_MMAP, address, 4096, uintptr(protection), uintptr(flags|unix.MAP_FIXED_NOREPLACE), uintptr(fd), 0)
	if errno != 0 {
		return errno
	}
	if strings.Contains(args[1], "protected") {
		if _, _, errno := unix.Syscall(unix.SYS_MPROTECT, address, 4096, unix.PROT_READ); errno != 0 {
			return errno
		}
	}
	return unix.Close(fd)
}

// inThread opens args[0] for writing in a thread with descriptors of its own.
func inThread(args []string) error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FILES)
		if err == nil {
			err = openOnly(args[0], unix.O_WRONLY)
		}
		failed <- err
		select {} // the thread is never given back
	}()
	return <-failed
}

func init() { runtime.LockOSThread() } // the main goroutine is on the first thread

// withoutLeader opens args[0] for writing and ends the first thread.
func withoutLeader(args []string) error {
	if err := openOnly(args[0], unix.O_WRONLY); err != nil {
		return err
	}
	go ready()
	_, _, errno := unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
	return errno
}

// getStuck stores to args[0], which is on a frozen file system, and then changes the mapping: that has
// to wait for the page fault, and whoever wants to know the process's mappings has to wait for it.
func getStuck(args []string) error {
	runtime.GOMAXPROCS(4)
	debug.SetGCPercent(-1) // it would wait too
	fd, err := unix.Open(args[0], unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	memory, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	fmt.Println("ready") // as long as it can
	storing := make(chan string)
	go func() {
		runtime.LockOSThread()
		storing <- fmt.Sprintf("/proc/self/task/%d/stat", unix.Gettid())
		memory[0]++
	}()
	thread := <-storing
	for !waits(thread) {
		time.Sleep(time.Millisecond)
	}
	go unix.Mprotect(memory, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC)
	return nil
}

// waits reports whether a task, by its stat in /proc, is in uninterruptible sleep.
func waits(path string) bool {
	stat, _ := os.ReadFile(path)
	return bytes.Contains(stat, []byte(") D "))
}

// printFound prints what Find finds in args[0], as JSON.
func printFound(args []string) error {
	found, err := Find(context.Background(), changes.Source{Path: args[0], OneFileSystem: true})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}
