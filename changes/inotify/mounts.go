package inotify

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"rsince/changes"
)

// mountTable is the process's table of mounts, mountinfo(5).
const mountTable = "/proc/self/mountinfo"

// mounts says when the table of mounts changes.
type mounts struct {
	changed chan struct{} // has a value after a change
	done    chan struct{} // closed when poll has returned
	table   int           // not an os.File: the runtime's own poll would take the news away
	stop    int           // an eventfd
}

func watchMounts() (*mounts, error) {
	table, err := unix.Open(mountTable, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", mountTable, err)
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(table)
		return nil, fmt.Errorf("making an eventfd: %w", err)
	}
	m := &mounts{changed: make(chan struct{}, 1), done: make(chan struct{}), table: table, stop: stop}
	go m.poll()
	return m, nil
}

// poll waits for POLLPRI, by which the kernel announces a change (proc_pid_mountinfo(5)).
func (m *mounts) poll() {
	defer close(m.done)
	fds := []unix.PollFd{{Fd: int32(m.table), Events: unix.POLLPRI}, {Fd: int32(m.stop), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return
		}
		if fds[1].Revents != 0 {
			return
		}
		if fds[0].Revents != 0 {
			select {
			case m.changed <- struct{}{}:
			default:
			}
		}
	}
}

func (m *mounts) close() {
	// Adding to an eventfd fails only when its sum overflows.
	_, _ = unix.Write(m.stop, []byte{1, 0, 0, 0, 0, 0, 0, 1})
	<-m.done
	unix.Close(m.stop)
	unix.Close(m.table)
}

// mountsBelow returns the mount points of source other than its root, as paths relative to it, each
// with the ids of what is mounted there, one above the other.
func mountsBelow(source changes.Source) (map[string][]int, error) {
	f, err := os.Open(mountTable)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseMounts(f, source)
}

func parseMounts(r io.Reader, source changes.Source) (map[string][]int, error) {
	infos, err := mountinfo.GetMountsFromReader(r, nil)
	if err != nil {
		return nil, fmt.Errorf("reading the table of mounts: %w", err)
	}
	below := make(map[string][]int)
	for _, info := range infos {
		if path, ok := source.Rel(info.Mountpoint); ok && path != "." {
			below[path] = append(below[path], info.ID)
		}
	}
	return below, nil
}

// checkMounts finds what was mounted or unmounted below the source since the last time: a gap, since
// nobody knows what was done there before it could be watched.
func (w *watch) checkMounts(ctx context.Context) {
	now, err := mountsBelow(w.source)
	if err != nil {
		w.gap(".", "%v", err)
		return
	}
	before := w.mounted
	w.mounted = now
	all := maps.Clone(before)
	maps.Copy(all, now)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if !slices.Equal(before[path], now[path]) {
			w.remounted(ctx, path)
		}
	}
	if !w.source.OneFileSystem {
		w.checkHeard(ctx)
	}
}

// checkHeard finds what was unmounted and mounted again and looks the same in the table.
func (w *watch) checkHeard(ctx context.Context) {
	for _, path := range slices.Sorted(maps.Keys(w.mounted)) {
		d := w.find(path)
		if d == nil {
			continue // not seen, for a reason that was told
		}
		err := w.heard(d)
		if err == nil || denied(err) && d.blind {
			continue
		}
		w.remounted(ctx, path)
	}
}

func (w *watch) remounted(ctx context.Context, path string) {
	parent, name := split(path)
	d := w.find(parent)
	if d == nil {
		return // below a mount point that is left alone, or not seen for another reason that was told
	}
	w.refresh(ctx, d, name, true)
	w.gap(path, "something was mounted or unmounted there")
	if w.covers(path) {
		w.rec.Record(path, changes.Subtree)
	}
}
