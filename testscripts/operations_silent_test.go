package testscripts

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a workload writes without an event, or with one that comes when it lets go, perhaps much later.

// silent are the files that a workload holds and writes to where no watcher hears of it.
type silent struct {
	aio      []*os.File
	context  uintptr // of libaio; 0 until it is needed
	mappings []mapping
	loops    []loop
}

// A mapping is the beginning of a file in memory; the descriptor is closed.
type mapping struct {
	path   string
	memory []byte
}

// A loop is a file as a disk. It is let go of when the device is closed.
type loop struct {
	path   string
	device *os.File
}

// heldSilently is how many of each kind are held at most.
const heldSilently = 3

// block is what a write without the page cache is a multiple of.
const block = 4096

func (s *silent) close() {
	for _, f := range s.aio {
		f.Close()
	}
	for _, m := range s.mappings {
		_ = unix.Munmap(m.memory)
	}
	for _, l := range s.loops {
		l.device.Close()
	}
	if s.context != 0 {
		_, _, _ = unix.Syscall(unix.SYS_IO_DESTROY, s.context, 0, 0)
	}
	*s = silent{}
}

func (w *workload) holdForAIO() error {
	f, err := w.open(os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	w.silent.aio = append(w.silent.aio, f)
	if len(w.silent.aio) > heldSilently {
		err = w.silent.aio[0].Close()
		w.silent.aio = slices.Delete(w.silent.aio, 0, 1)
	}
	return err
}

// writeByAIO has the kernel write a block, as databases and virtual machines do (io_submit(2)).
func (w *workload) writeByAIO() error {
	if len(w.silent.aio) == 0 {
		return errNothing
	}
	f := w.silent.aio[w.rand.IntN(len(w.silent.aio))]
	info, err := f.Stat()
	if err != nil {
		return err
	}
	w.chose(f.Name(), info)
	if w.silent.context == 0 {
		if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&w.silent.context)), 0); errno != 0 {
			return errno
		}
	}
	return submit(w.silent.context, int(f.Fd()), w.block(), int64(w.rand.IntN(3))*block)
}

// block is a page of content, where a write without the page cache wants it.
func (w *workload) block() []byte {
	page, err := unix.Mmap(-1, 0, block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	for i := 0; i < block; i += 16 {
		copy(page[i:], fmt.Sprintf("%016x", w.rand.Uint64()))
	}
	return page
}

// iocb is struct iocb of linux/aio_abi.h.
type iocb struct {
	_      [2]uint64 // aio_data, aio_key, aio_rw_flags
	opcode uint16
	_      int16 // aio_reqprio
	fd     uint32
	buf    uint64
	size   uint64
	offset int64
	_      [2]uint64 // aio_reserved2, aio_flags, aio_resfd
}

// submit writes a page, which it frees, and waits until that is done.
func submit(context uintptr, fd int, page []byte, offset int64) error {
	defer unix.Munmap(page)
	const pwrite = 1 // IOCB_CMD_PWRITE
	order := iocb{opcode: pwrite, fd: uint32(fd), buf: uint64(uintptr(unsafe.Pointer(&page[0]))), size: uint64(len(page)), offset: offset}
	orders := [1]*iocb{&order}
	if _, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, context, 1, uintptr(unsafe.Pointer(&orders[0]))); errno != 0 {
		return errno
	}
	var event struct{ data, order, result, result2 int64 } // struct io_event
	for {
		_, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, context, 1, 1, uintptr(unsafe.Pointer(&event)), 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return errno
		case event.result < 0:
			return unix.Errno(-event.result)
		default:
			return nil
		}
	}
}

func (w *workload) mapFile() error {
	f, err := w.open(os.O_RDWR, block)
	if err != nil {
		return err
	}
	defer f.Close()
	memory, err := unix.Mmap(int(f.Fd()), 0, block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	w.silent.mappings = append(w.silent.mappings, mapping{f.Name(), memory})
	if len(w.silent.mappings) > heldSilently {
		err = unix.Munmap(w.silent.mappings[0].memory)
		w.silent.mappings = slices.Delete(w.silent.mappings, 0, 1)
	}
	return err
}

// storeInMapping writes to memory alone: if the page is dirty, not even a time changes.
func (w *workload) storeInMapping() (err error) {
	if len(w.silent.mappings) == 0 {
		return errNothing
	}
	m := w.silent.mappings[w.rand.IntN(len(w.silent.mappings))]
	w.chose(m.path, nil)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			err = errNothing // the file has become shorter
		}
	}()
	copy(m.memory[w.rand.IntN(block-16):], fmt.Sprintf("%016x", w.rand.Uint64()))
	return nil
}

// attachLoop makes a file a disk that writes past the page cache.
func (w *workload) attachLoop() error {
	f, err := w.open(os.O_RDWR, block)
	if err != nil {
		return err
	}
	defer f.Close()
	device, err := attach(f)
	if err != nil {
		return err
	}
	w.silent.loops = append(w.silent.loops, loop{f.Name(), device})
	if len(w.silent.loops) > heldSilently {
		err = w.silent.loops[0].device.Close()
		w.silent.loops = slices.Delete(w.silent.loops, 0, 1)
	}
	return err
}

// attach gives the loop device of a file, which it is until the device is closed.
func attach(f *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(f.Fd()), Size: 512}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	for {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, err
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR|unix.O_DIRECT, 0)
		if err != nil {
			return nil, err
		}
		if err = unix.IoctlLoopConfigure(int(device.Fd()), &config); err == nil {
			return device, nil
		}
		device.Close()
		if err != unix.EBUSY { // by somebody who was faster
			return nil, err
		}
	}
}

func (w *workload) writeToLoop() error {
	if len(w.silent.loops) == 0 {
		return errNothing
	}
	l := w.silent.loops[w.rand.IntN(len(w.silent.loops))]
	w.chose(l.path, nil)
	page := w.block()
	defer unix.Munmap(page)
	_, err := l.device.WriteAt(page, 0)
	return err
}
