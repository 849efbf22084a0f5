// Package rig boots a real kernel for a test: User Mode Linux, which runs as a process and is up in
// about two seconds. It has what a test machine's own kernel may lack or what a test must not do to it:
// device mapper and LVM, disks that fail, an older version (Debian 12's is 6.1), a power cut.
//
//	m := rig.Machine{Disks: []string{image}, Modules: []string{"dm-snapshot"}}
//	output, exit, err := m.Run(ctx, "mkfs.ext4 -q /dev/ubda && mount /dev/ubda /mnt && …")
//
// The root of such a machine is that of its host, read-only, so every program and file is there under
// its usual path. It has one CPU and no network.
package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Machine is what boots. The zero value has no disk.
type Machine struct {
	// Disks are image files, at most six, which the machine sees as /dev/ubda, /dev/ubdb and so on. What
	// it has flushed is in the file; so is, often, what it has written and not flushed.
	Disks   []string
	Modules []string // are loaded before the script starts, with those they need, such as "dm-thin-pool"
	Memory  string   // such as "1G"; empty: 512 MiB

	// Exchange is a directory of the host in which the script may write, under the same path; empty: none.
	// It is no place for what is to be tested: such files have neither events nor handles, and no sockets.
	Exchange string
}

// program is the kernel, as Debian's package user-mode-linux calls it.
const program = "linux.uml"

// memoryDir is where a machine's memory is a file without a name.
const memoryDir = "/dev/shm"

// Available tells why no machine can run here, or not with these programs; nil: it can.
func Available(programs ...string) error {
	for _, name := range append([]string{program, "modprobe"}, programs...) {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is not installed", name)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(memoryDir, &st); err != nil {
		return fmt.Errorf("looking at %s: %w", memoryDir, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < 1<<30 {
		return fmt.Errorf("%s has room for %d MiB; a machine takes its memory from there", memoryDir, free>>20)
	}
	cmd := exec.Command(program, "--version")
	cmd.SysProcAttr = confined()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("no kernel can be started with process ids of its own: %w", err)
	}
	return nil
}

// confined puts a process into a namespace of process ids: all of its descendants die with it. The
// helpers that the kernel starts would outlive it. It dies itself with the thread that started it. It
// cannot be the kernel, since that ends a panic by a signal to itself, which has no effect on the first
// process of a namespace.
func confined() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
}

// Run boots the machine, has sh run the script, and returns what it wrote to its standard output and
// error, and its exit code. When it has ended, its processes are killed and its disks unmounted. The
// error is that of the machine or the context; what the script wrote until then is returned as well.
func (m Machine) Run(ctx context.Context, script string) (output []byte, exit int, err error) {
	r, err := m.Start(script)
	if err != nil {
		return nil, -1, err
	}
	stop := context.AfterFunc(ctx, r.Kill)
	defer stop()
	output, readErr := io.ReadAll(r)
	exit, err = r.Wait()
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return output, exit, errors.Join(err, readErr)
}

// Running is a machine that was started. It lives no longer than this process, however that ends, and
// leaves no file and no process behind. Wait has to be called.
type Running struct {
	cmd     *exec.Cmd
	console bytes.Buffer // what the kernel says
	output  *os.File
	done    chan struct{} // closed when the machine is gone; then these are set:
	exit    int
	err     error
}

// Start boots the machine, which runs the script.
func (m Machine) Start(script string) (*Running, error) {
	files, err := m.wire(script)
	if err != nil {
		return nil, fmt.Errorf("starting a machine: %w", err)
	}
	r := &Running{output: files.output, done: make(chan struct{})}
	r.cmd = exec.Command("sh", append([]string{"-c", `"$@"; exit`, "sh", program}, m.arguments()...)...)
	r.cmd.Env = []string{"TMPDIR=" + memoryDir}
	r.cmd.Stdout, r.cmd.Stderr = &r.console, &r.console
	r.cmd.ExtraFiles = files.machine
	r.cmd.SysProcAttr = confined()
	started := make(chan error)
	go r.run(started, files)
	if err := <-started; err != nil {
		return nil, errors.Join(err, files.output.Close())
	}
	return r, nil
}

// run starts the kernel and stays until it is gone, on a thread of its own, with which it would die.
func (r *Running) run(started chan<- error, files *files) {
	runtime.LockOSThread()
	defer close(r.done)
	defer files.status.Close()
	err := r.cmd.Start()
	files.closeMachine()
	started <- err
	if err != nil {
		return
	}
	_, unfinished := fmt.Fscan(files.status, &r.exit) // the end of file comes when the kernel is gone
	_ = r.cmd.Process.Kill()
	err = r.cmd.Wait()
	if unfinished != nil {
		r.exit, r.err = -1, fmt.Errorf("the kernel ended before the script: %w; it said:\n%s", err, tail(r.console.Bytes()))
	}
}

// tail is the end of what a kernel says; a panic is some 40 lines.
func tail(text []byte) []byte { return text[max(0, len(text)-4096):] }

// Read reads what the script writes to its standard output and error. A script of which nobody reads
// comes to a halt. The end of file comes when the machine is gone.
func (r *Running) Read(p []byte) (int, error) { return r.output.Read(p) }

// Kill is a power cut: it ends the kernel and returns when it is gone, and with it all that its disks
// were not yet given. What a disk was given without a flush stays, unlike with some real ones.
func (r *Running) Kill() {
	_ = r.cmd.Process.Kill()
	<-r.done
}

// Wait returns the exit code of the script when it has ended and the machine is gone. What it writes
// has to be read before. The error says that the kernel ended before the script.
func (r *Running) Wait() (exit int, err error) {
	<-r.done
	return r.exit, errors.Join(r.err, r.output.Close())
}
