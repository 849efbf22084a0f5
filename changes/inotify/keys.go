package inotify

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// base is the number of digits of a key. Each costs a descriptor; each place costs 1.6 µs when a
// watch is added, and with 64 three places do for 262,144 directories.
const base = 64

const descriptors = "/proc/self/fd"

// keys gives every watch a path of its own that leads to an open descriptor.
//
// fsnotify knows a watch by the path it was added with and names events by it for ever. An ordinary
// path would follow a symlink that took the directory's place, could be longer than PATH_MAX, would
// be wrong after a rename further up, and, used again for the directory that came after, would mix
// up the two. /proc/self/fd/N leads to exactly the directory that was opened and looked at, but N
// comes again and again. So the path counts: /proc/self/fd/D/D/N, where every digit D is a descriptor
// of /proc/self/fd itself, and N, the slot, is the directory while the watch is being added. Nothing
// of this is visible outside the process.
type keys struct {
	digits [base]int
	values map[string]uint64 // digit in decimal → value
	slot   int
	end    string // the slot in decimal
	last   uint64
}

func newKeys() (*keys, error) {
	first, err := unix.Open(descriptors, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", descriptors, err)
	}
	k := &keys{slot: -1, values: make(map[string]uint64, base)}
	for i := range k.digits {
		k.digits[i] = -1
	}
	k.set(0, first)
	for i := 1; i < base && err == nil; i++ {
		var fd int
		if fd, err = unix.FcntlInt(uintptr(first), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			k.set(i, fd)
		}
	}
	if err == nil {
		k.slot, err = unix.FcntlInt(uintptr(first), unix.F_DUPFD_CLOEXEC, 0)
		k.end = strconv.Itoa(k.slot)
	}
	if err != nil {
		k.close()
		return nil, fmt.Errorf("duplicating a descriptor: %w", err)
	}
	return k, nil
}

func (k *keys) set(i, fd int) {
	k.digits[i] = fd
	k.values[strconv.Itoa(fd)] = uint64(i)
}

func (k *keys) close() {
	for _, fd := range append(k.digits[:], k.slot) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// next returns a key that was never used.
func (k *keys) next() uint64 {
	k.last++
	return k.last
}

// path returns the path of a key, lowest digit first.
func (k *keys) path(key uint64) string {
	b := make([]byte, 0, 40)
	b = append(b, descriptors...)
	for ; key > 0; key /= base {
		b = append(b, '/')
		b = strconv.AppendInt(b, int64(k.digits[key%base]), 10)
	}
	b = append(b, '/')
	return string(append(b, k.end...))
}

// parse takes apart the name of an event: the key of the watch, and the name within the watched
// directory, which is empty when the event is about the directory itself.
func (k *keys) parse(path string) (key uint64, name string, ok bool) {
	rest, ok := strings.CutPrefix(path, descriptors+"/")
	for place := uint64(1); ok; place *= base {
		var digit string
		var more bool
		digit, rest, more = strings.Cut(rest, "/")
		if digit == k.end {
			return key, rest, key != 0
		}
		var value uint64
		value, ok = k.values[digit]
		key += value * place
		ok = ok && more
	}
	return 0, "", false
}

// with calls add with the path of key while that path leads to the directory open as fd. The
// directory is let go afterwards, because a descriptor would keep its file system from being unmounted.
func (k *keys) with(key uint64, fd int, add func(path string) error) error {
	if err := unix.Dup3(fd, k.slot, unix.O_CLOEXEC); err != nil {
		return err
	}
	err := add(k.path(key))
	if undo := unix.Dup3(k.digits[0], k.slot, unix.O_CLOEXEC); err == nil {
		err = undo
	}
	return err
}
