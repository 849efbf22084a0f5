package writers

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"rsince/testscripts/disk"
)

// A writer changes a file in a way of its own. Its methods are called in this order.
type writer interface {
	begin(t testing.TB, path string)
	store(t testing.TB) // changes the content
	end(t testing.TB)   // lets go of the file
}

// TestSilentWriters says of whom the kernel tells nothing at the store (Linux 6.1 and 6.18), and that
// Find finds them while they hold the file.
func TestSilentWriters(t *testing.T) {
	const no, yes, either = "no", "yes", "either"
	for _, c := range []struct {
		name   string
		writer writer
		told   string
	}{
		{"write", new(plainWriter), yes},
		{"io_uring", new(ringWriter), yes}, // since Linux 5.18 (f63cf5192fe3)
		{"libaio", new(aioWriter), no},
		{"libaio direct", &aioWriter{flags: unix.O_DIRECT}, no},
		{"shared mapping", new(mapWriter), no},
		{"shared mapping, descriptor closed", &mapWriter{closed: true}, no},
		{"loop device", new(loopWriter), either}, // not since Linux 6.15 and in some before (f2fed441c69b)
		{"loop device direct", &loopWriter{direct: true}, no},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := disk.New(t, "ext4")
			path := filepath.Join(dir, "f")
			makeFile(t, path)
			events := listen(t, dir)
			c.writer.begin(t, path)
			events.take(t)
			c.writer.store(t)
			told := no
			if events.take(t)&unix.FAN_MODIFY != 0 {
				told = yes
			}
			if told != c.told && c.told != either {
				t.Errorf("told of the store: %s, want %s", told, c.told)
			}
			expect(t, find(t, dir), "f")
			c.writer.end(t)
			if events.take(t)&unix.FAN_CLOSE_WRITE == 0 {
				t.Error("not told of the end")
			}
			expect(t, find(t, dir), "")
		})
	}
}

// TestSecondStoreKeepsTime shows why such a file cannot be known by its times either.
func TestSecondStoreKeepsTime(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(fsType, func(t *testing.T) {
			path := filepath.Join(disk.New(t, fsType), "f")
			makeFile(t, path)
			w := new(mapWriter)
			w.begin(t, path)
			w.store(t)
			before := stat(t, path)
			w.store(t)
			if after := stat(t, path); after.Mtim != before.Mtim || after.Ctim != before.Ctim {
				t.Errorf("mtime %v, then %v; ctime %v, then %v", before.Mtim, after.Mtim, before.Ctim, after.Ctim)
			}
			w.end(t)
		})
	}
}

const fileSize = 1 << 20

func makeFile(t testing.TB, path string) {
	t.Helper()
	if err := os.WriteFile(path, make([]byte, fileSize), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openFile(t testing.TB, path string, flags int) int {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func closeFile(t testing.TB, fd int) {
	t.Helper()
	if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
}

func stat(t testing.TB, path string) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// An ear hears what is told of the files of a file system.
type ear int

func listen(t testing.TB, dir string) ear {
	t.Helper()
	group, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_REPORT_FID|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(group) })
	const mask = unix.FAN_MODIFY | unix.FAN_CLOSE_WRITE
	if err := unix.FanotifyMark(group, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, mask, unix.AT_FDCWD, dir); err != nil {
		t.Fatal(err)
	}
	return ear(group)
}

// take returns the kinds of all events since it was last called.
func (e ear) take(t testing.TB) (mask uint64) {
	t.Helper()
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(int(e), buf)
		if err == unix.EAGAIN {
			return mask
		} else if err != nil {
			t.Fatal(err)
		}
		for b := buf[:n]; len(b) > 0; b = b[binary.NativeEndian.Uint32(b):] {
			mask |= binary.NativeEndian.Uint64(b[8:]) // struct fanotify_event_metadata
		}
	}
}

type plainWriter struct{ fd int }

func (w *plainWriter) begin(t testing.TB, path string) { w.fd = openFile(t, path, unix.O_WRONLY) }
func (w *plainWriter) end(t testing.TB)                { closeFile(t, w.fd) }
func (w *plainWriter) store(t testing.TB) {
	if _, err := unix.Pwrite(w.fd, []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
}

type mapWriter struct {
	closed bool // the descriptor, once the file is mapped
	fd     int
	memory []byte
}

func (w *mapWriter) begin(t testing.TB, path string) {
	w.fd = openFile(t, path, unix.O_RDWR)
	var err error
	if w.memory, err = unix.Mmap(w.fd, 0, fileSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		t.Fatal(err)
	}
	if w.closed {
		closeFile(t, w.fd)
	}
}

func (w *mapWriter) store(testing.TB) { w.memory[0]++ }

func (w *mapWriter) end(t testing.TB) {
	if err := unix.Munmap(w.memory); err != nil {
		t.Error(err)
	}
	if !w.closed {
		closeFile(t, w.fd)
	}
}

// aligned returns memory as O_DIRECT wants it, gone after the test.
func aligned(t testing.TB) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	b[0] = 'x'
	return b
}

type aioWriter struct {
	flags   int
	fd      int
	context uintptr
}

func (w *aioWriter) begin(t testing.TB, path string) {
	w.fd = openFile(t, path, unix.O_RDWR|w.flags)
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&w.context)), 0); errno != 0 {
		t.Fatal("io_setup:", errno)
	}
}

func (w *aioWriter) store(t testing.TB) {
	buf := aligned(t)
	request := new([64]byte)                       // struct iocb of linux/aio_abi.h
	binary.NativeEndian.PutUint16(request[16:], 1) // IOCB_CMD_PWRITE
	binary.NativeEndian.PutUint32(request[20:], uint32(w.fd))
	binary.NativeEndian.PutUint64(request[24:], uint64(uintptr(unsafe.Pointer(&buf[0]))))
	binary.NativeEndian.PutUint64(request[32:], uint64(len(buf)))
	list := [1]*[64]byte{request}
	if _, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, w.context, 1, uintptr(unsafe.Pointer(&list))); errno != 0 {
		t.Fatal("io_submit:", errno)
	}
	var event struct{ data, request, result, result2 int64 }
	_, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, w.context, 1, 1, uintptr(unsafe.Pointer(&event)), 0, 0)
	if errno != 0 || event.result != int64(len(buf)) {
		t.Fatal("io_getevents:", errno, event.result)
	}
	runtime.KeepAlive(request)
}

func (w *aioWriter) end(t testing.TB) {
	if _, _, errno := unix.Syscall(unix.SYS_IO_DESTROY, w.context, 0, 0); errno != 0 {
		t.Error("io_destroy:", errno)
	}
	closeFile(t, w.fd)
}

type ringWriter struct{ fd int }

func (w *ringWriter) begin(t testing.TB, path string) {
	w.fd = openFile(t, path, unix.O_RDWR)
}

// ringParams is struct io_uring_params of linux/io_uring.h.
type ringParams struct {
	entries, cqEntries, flags, cpu, idle, features, wq uint32
	_                                                  [3]uint32
	sq, cq                                             struct {
		head, tail, mask, entries, fifth, sixth, seventh, eighth uint32
		_                                                        uint64
	}
}

func (w *ringWriter) store(t testing.TB) {
	var params ringParams
	ring, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		t.Skip("io_uring_setup: ", errno)
	}
	defer unix.Close(int(ring))
	mapped := func(offset int64) []byte {
		b, err := unix.Mmap(int(ring), offset, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Munmap(b) })
		return b
	}
	rings, entry := mapped(0), mapped(0x10000000) // IORING_OFF_SQES
	buf := aligned(t)
	const write = 23 // IORING_OP_WRITE
	entry[0] = write
	binary.NativeEndian.PutUint32(entry[4:], uint32(w.fd))
	binary.NativeEndian.PutUint64(entry[16:], uint64(uintptr(unsafe.Pointer(&buf[0]))))
	binary.NativeEndian.PutUint32(entry[24:], uint32(len(buf)))
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&rings[params.sq.tail])), 1)
	const wait = 1 // IORING_ENTER_GETEVENTS
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, ring, 1, 1, wait, 0, 0); errno != 0 {
		t.Fatal("io_uring_enter:", errno)
	}
	cqes := params.cq.sixth // struct io_cqring_offsets
	if result := int32(binary.NativeEndian.Uint32(rings[cqes+8:])); result != int32(len(buf)) {
		t.Fatal("io_uring write:", result)
	}
}

func (w *ringWriter) end(t testing.TB) { closeFile(t, w.fd) }

// loopWriter writes to a loop device whose backing file is the file.
type loopWriter struct {
	direct bool
	device string
}

func (w *loopWriter) begin(t testing.TB, path string) {
	w.device = attach(t, path)
	if w.direct {
		run(t, "losetup", "--direct-io=on", w.device)
	}
}

func (w *loopWriter) store(t testing.TB) {
	fd := openFile(t, w.device, unix.O_WRONLY|unix.O_SYNC)
	if _, err := unix.Pwrite(fd, aligned(t), 4096); err != nil {
		t.Fatal(err)
	}
	closeFile(t, fd)
}

func (w *loopWriter) end(t testing.TB) { run(t, "losetup", "--detach", w.device) }

// attach returns a loop device with this backing file.
func attach(t testing.TB, path string, options ...string) string {
	t.Helper()
	cmd := exec.Command("losetup", append(options, "--find", "--show", path)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	device := string(out[:len(out)-1])
	t.Cleanup(func() { exec.Command("losetup", "--detach", device).Run() })
	return device
}
