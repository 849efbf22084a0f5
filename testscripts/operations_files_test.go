package testscripts

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// What a workload does to one file or name.

func (w *workload) create() error {
	path, err := w.place()
	if err != nil {
		return err
	}
	return w.writeFile(path, os.O_CREATE|os.O_EXCL)
}

func (w *workload) createOdd() error {
	path, err := w.place()
	if err != nil {
		return err
	}
	return w.writeFile(filepath.Dir(path)+"/"+w.oddName(), os.O_CREATE|os.O_EXCL)
}

func (w *workload) writeFile(path string, flags int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|flags, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(w.content())
	return err
}

func (w *workload) write() error { return w.onFile(os.O_TRUNC) }

func (w *workload) append() error { return w.onFile(os.O_APPEND) }

func (w *workload) onFile(flags int) error {
	path, err := w.pick(w.source, regular)
	if err != nil {
		return err
	}
	return w.writeFile(path, flags)
}

// open picks a file that has this size at least, and opens it.
func (w *workload) open(flags int, size int64) (*os.File, error) {
	path, err := w.pick(w.source, regular)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.Size() < size {
		f.Close()
		return nil, errNothing
	}
	return f, nil
}

func (w *workload) truncate() error {
	path, err := w.pick(w.source, regular)
	if err != nil {
		return err
	}
	return os.Truncate(path, int64(w.rand.IntN(100)))
}

// rewriteHidden changes bytes in the middle and puts the time back.
func (w *workload) rewriteHidden() error {
	f, err := w.open(os.O_WRONLY, 16)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(f, "%016x", w.rand.Uint64()); err != nil {
		return err
	}
	return os.Chtimes(f.Name(), info.ModTime(), info.ModTime())
}

// rewriteTwice gives a file another content of the same size, nanoseconds after the last one.
func (w *workload) rewriteTwice() error {
	path, err := w.place()
	if err != nil {
		return err
	}
	for range 2 {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
		if err != nil {
			return err
		}
		fmt.Fprintf(f, "%016x", w.rand.Uint64())
		f.Close()
	}
	return nil
}

func (w *workload) sparse() error {
	path, err := w.place()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("in the middle"), 1<<20); err != nil {
		return err
	}
	return f.Truncate(2 << 20)
}

func (w *workload) writeMapping() error {
	f, err := w.open(os.O_RDWR, 16)
	if err != nil {
		return err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, 16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	f.Close()
	if err != nil {
		return err
	}
	copy(mem, fmt.Sprintf("%016x", w.rand.Uint64()))
	return unix.Munmap(mem)
}

func (w *workload) hold() error {
	f, err := w.open(os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	w.held = append(w.held, f)
	if len(w.held) > 20 {
		err = w.held[0].Close()
		w.held = w.held[1:]
	}
	return err
}

// pickHeld gives a file that is held open. The name it was opened by may lead elsewhere by now.
func (w *workload) pickHeld() (*os.File, error) {
	if len(w.held) == 0 {
		return nil, errNothing
	}
	f := w.held[w.rand.IntN(len(w.held))]
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	w.chose(f.Name(), info)
	return f, nil
}

func (w *workload) writeHeld() error {
	f, err := w.pickHeld()
	if err != nil {
		return err
	}
	_, err = f.Write(w.content())
	return err
}

func (w *workload) truncateHeld() error {
	f, err := w.pickHeld()
	if err != nil {
		return err
	}
	return f.Truncate(int64(w.rand.IntN(10_000)))
}

func (w *workload) chmodHeld() error {
	f, err := w.pickHeld()
	if err != nil {
		return err
	}
	return unix.Fchmod(int(f.Fd()), 0o600|w.rand.Uint32N(0o200))
}

// copyRange has the kernel copy from one file into another, which some file systems do by sharing blocks.
func (w *workload) copyRange() error {
	in, err := w.open(os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := w.open(os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	if w.rand.IntN(2) == 0 && unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return nil
	}
	_, err = unix.CopyFileRange(int(in.Fd()), nil, int(out.Fd()), nil, w.rand.IntN(100_000), 0)
	return err
}

// punchHole takes bytes away within a file, or makes room for more, without a write. What the kernel refuses to take
// away at the end has another time then, and on Linux 6.18 there is no event but that of the close.
func (w *workload) punchHole() error {
	at := block * w.rand.Int64N(3)
	modes := []uint32{unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_COLLAPSE_RANGE, 0}
	mode, size := modes[w.rand.IntN(len(modes))], int64(0)
	if mode == unix.FALLOC_FL_COLLAPSE_RANGE {
		size = at + block + 1
	}
	f, err := w.open(os.O_WRONLY, size)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fallocate(int(f.Fd()), mode, at, block)
}

func (w *workload) tmpfile() error {
	path, err := w.place()
	if err != nil {
		return err
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_TMPFILE|unix.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), path)
	w.held = append(w.held, f)
	if _, err := f.Write(w.content()); err != nil {
		return err
	}
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW); err != nil {
		return err
	}
	_, err = f.Write(w.content())
	return err
}

func (w *workload) chmod() error {
	path, err := w.pick(w.source, regular)
	if err != nil {
		return err
	}
	special := []uint32{0, 0, 0, unix.S_ISUID, unix.S_ISGID}
	return unix.Chmod(path, special[w.rand.IntN(len(special))]|0o600|w.rand.Uint32N(0o200))
}

func (w *workload) chmodDir() error {
	path, err := w.pick(w.source, directory)
	if err != nil {
		return err
	}
	return unix.Chmod(path, 0o700|w.rand.Uint32N(0o100)|w.rand.Uint32N(2)<<9)
}

func (w *workload) chown() error {
	path, err := w.pick(w.source, anything)
	if err != nil {
		return err
	}
	return os.Lchown(path, w.rand.IntN(4), w.rand.IntN(4))
}

func (w *workload) times() error {
	path, err := w.pick(w.source, anything)
	if err != nil {
		return err
	}
	t := unix.NsecToTimespec(time.Now().Add(-time.Duration(w.rand.Int64N(1e18))).UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}

func (w *workload) setXattr() error {
	path, err := w.pick(w.source, anything)
	if err != nil {
		return err
	}
	return unix.Lsetxattr(path, fmt.Sprintf("user.%d", w.rand.IntN(3)), w.content()[:w.rand.IntN(16)], 0)
}

func (w *workload) removeXattr() error {
	for range 20 {
		path, err := w.pick(w.source, anything)
		if err == nil && unix.Lremovexattr(path, fmt.Sprintf("user.%d", w.rand.IntN(3))) == nil {
			return nil
		}
	}
	return w.setXattr()
}

// setACL gives one more user a right, in the kernel's format (linux/posix_acl_xattr.h), or has new files in
// a directory give it.
func (w *workload) setACL() error {
	path, err := w.pick(w.source, func(i os.FileInfo) bool { return i.IsDir() || i.Mode().IsRegular() })
	if err != nil {
		return err
	}
	const (
		version                                   = 2
		userObj, user, groupObj, mask, other, any = 1, 2, 4, 16, 32, ^uint32(0)
	)
	acl := binary.LittleEndian.AppendUint32(nil, version)
	for _, e := range []struct {
		tag, rights uint16
		id          uint32
	}{{userObj, 7, any}, {user, uint16(w.rand.IntN(8)), 1000 + w.rand.Uint32N(4)}, {groupObj, 5, any}, {mask, 7, any}, {other, 4, any}} {
		acl = binary.LittleEndian.AppendUint16(acl, e.tag)
		acl = binary.LittleEndian.AppendUint16(acl, e.rights)
		acl = binary.LittleEndian.AppendUint32(acl, e.id)
	}
	name := "system.posix_acl_access"
	if w.rand.IntN(3) == 0 {
		name = "system.posix_acl_default" // files have none
	}
	return unix.Lsetxattr(path, name, acl, 0)
}

// setCapabilities gives a program rights (struct vfs_cap_data of linux/capability.h, revision 2), which a
// write takes from it.
func (w *workload) setCapabilities() error {
	path, err := w.pick(w.source, regular)
	if err != nil {
		return err
	}
	data := binary.LittleEndian.AppendUint32(nil, 0x0200_0000)
	for range 4 {
		data = binary.LittleEndian.AppendUint32(data, w.rand.Uint32N(1<<8))
	}
	return unix.Lsetxattr(path, "security.capability", data, 0)
}

// link gives another name to anything that can have one, symlinks and fifos too.
func (w *workload) link() error {
	from, err := w.pick(w.source, noDirectory)
	if err != nil {
		return err
	}
	to, err := w.place()
	if err != nil {
		return err
	}
	return os.Link(from, to)
}

// linkAcross gives a file of the source a name outside, or the other way round.
func (w *workload) linkAcross() error {
	if w.rand.IntN(2) == 0 {
		from, err := w.pick(w.source, regular)
		if err != nil {
			return err
		}
		return os.Link(from, w.beside+"/"+w.number())
	}
	from, err := w.pick(w.beside, regular)
	if err != nil {
		return err
	}
	to, err := w.place()
	if err != nil {
		return err
	}
	return os.Link(from, to)
}

func (w *workload) number() string { return fmt.Sprint(w.rand.IntN(40)) }

func (w *workload) writeBeside() error {
	path, err := w.pick(w.beside, regular)
	if err != nil {
		return w.writeFile(w.beside+"/"+w.number(), os.O_CREATE)
	}
	return w.writeFile(path, 0)
}

func (w *workload) remove() error {
	path, err := w.pick(w.source, noDirectory)
	if err != nil {
		return err
	}
	return os.Remove(path)
}

func (w *workload) symlink() error {
	path, err := w.place()
	if err != nil {
		return err
	}
	other, err := w.pick(w.source, anything)
	if err != nil {
		return err
	}
	relative, err := filepath.Rel(filepath.Dir(path), other)
	if err != nil {
		return err
	}
	to := []string{relative, other, w.foreign, w.foreign + "/a", "nowhere", "..", "."}
	return os.Symlink(to[w.rand.IntN(len(to))], path)
}

func (w *workload) fifo() error { return w.node(unix.S_IFIFO, 0) }

func (w *workload) socket() error { return w.node(unix.S_IFSOCK, 0) }

// device makes a node with the numbers of /dev/null.
func (w *workload) device() error { return w.node(unix.S_IFCHR, int(unix.Mkdev(1, 3))) }

func (w *workload) node(kind uint32, device int) error {
	path, err := w.place()
	if err != nil {
		return err
	}
	if w.rand.IntN(30) == 0 { // in the place of a file that a run may be about to open
		if picked, err := w.pick(w.source, regular); err == nil && os.Remove(picked) == nil {
			path = picked
		}
	}
	return unix.Mknod(path, kind|0o644, device)
}
