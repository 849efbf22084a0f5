// Package writers finds the files that may change without an event.
//
// A write by libaio tells nobody, nor does one through a loop device (fs/aio.c and drivers/block/loop.c
// call write_iter and no fsnotify_modify; the latter since Linux 6.15, before only with direct I/O), nor
// a store through a shared mapping, and a second store into a dirty page does not even move the file's
// times. When the last of them lets go of the file there is an event, FAN_CLOSE_WRITE, perhaps weeks
// later. Until then somebody holds it open for writing:
//
//	/proc/PID/fd, /proc/PID/maps, /sys/block/loopN ─▶ held ─▶ mounts: in the source? ─▶ Change
//
// A file that changes hands while Find looks may be missed. It is found the next time, or its end is
// an event. Not looked for are files that the kernel itself writes to: swap, and what the SCSI and
// NVMe targets export.
package writers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"rsince/changes"
)

// A File can be written to: a change of kind Content with its path if it has one in the source, else
// with its handle if it has names that are not known; they need not be in the source. Where nothing leads to
// it any more it has neither.
type File struct {
	changes.Change
	Device, Inode uint64 // st_dev and st_ino
	// Mapped says that some memory shows it: a change need not renew its times. Where it is false, one
	// does, if late: as long as a single write goes on.
	Mapped bool
}

// Found is what Find has seen.
type Found struct {
	Files []File
	// Unseen says for people what could not be looked at, and why. It is empty if all was seen.
	Unseen []string
}

// Find returns the regular files of the source that somebody has open for writing.
func Find(ctx context.Context, source changes.Source) (Found, error) {
	f, err := newFinder(source)
	if err == nil {
		err = f.processes(ctx)
	}
	if err == nil {
		err = f.ask(ctx, loops())
	}
	if err != nil {
		return Found{}, fmt.Errorf("looking for files open for writing: %w", err)
	}
	return f.found(), nil
}

// finder gathers what is held. All of it belongs to one goroutine.
type finder struct {
	mounts  *mounts
	began   time.Time
	foreign map[uint64]bool   // st_dev of file systems that are no concern of the source
	done    map[identity]File // with Kind 0 if it does not concern the source
	unseen  unseen
	ownOnly bool // that other users' processes cannot be looked at is said already

	table   []*mountinfo.Info // as seen by the process tableOf
	tableOf string
}

func newFinder(source changes.Source) (*finder, error) {
	m, err := readMounts(source)
	if err != nil {
		return nil, err
	}
	f := &finder{
		mounts:  m,
		began:   time.Now(),
		foreign: map[uint64]bool{},
		done:    map[identity]File{},
		unseen:  unseen{},
	}
	return f, f.admit()
}

// admit says what is out of sight from the start.
func (f *finder) admit() error {
	all, err := capable(unix.CAP_SYS_PTRACE)
	if err != nil {
		return err
	}
	few, err := contained()
	if err != nil {
		return err
	}
	if !all {
		f.ownOnly = true
		f.unseen.add("what other users' processes hold open", errors.New("needs the capability CAP_SYS_PTRACE"))
	}
	if few {
		f.unseen.add("what processes outside this PID namespace hold open", errors.New("they are not visible from inside"))
	}
	if _, err := sameTable(os.Getpid(), os.Getpid()); err != nil {
		f.unseen.add("what threads with descriptors of their own hold open", err)
	}
	return nil
}

func (f *finder) found() Found {
	all := Found{Unseen: f.unseen.words()}
	for _, c := range f.done {
		if c.Kind != 0 {
			all.Files = append(all.Files, c)
		}
	}
	slices.SortFunc(all.Files, func(a, b File) int {
		return strings.Compare(a.Path+string(a.Handle), b.Path+string(b.Handle))
	})
	return all
}

// note adds a held file, unless it was let go of meanwhile: somebody else may still hold it.
func (f *finder) note(h held) {
	h, ok := f.onSource(h)
	if known, done := f.done[h.identity]; done {
		known.Mapped = known.Mapped || h.mapped
		f.done[h.identity] = known
		return
	}
	if !ok {
		return
	}
	c, err := f.mounts.change(h)
	if gone(err) {
		return
	}
	if err != nil {
		f.unseen.add(fmt.Sprintf("the names of the file that was %q", h.path), err)
	}
	if c.Path != "" || c.Handle != "" || h.lost() {
		c.Kind, c.Since = changes.Content, f.began
	}
	f.done[h.identity] = File{Change: c, Device: h.dev, Inode: h.ino, Mapped: h.mapped}
}

// onSource returns the held file as it is on one of the source's file systems, and whether it is.
func (f *finder) onSource(h held) (held, bool) {
	if f.mounts.disks[h.dev] {
		return h, true
	}
	if f.foreign[h.dev] {
		return h, false
	}
	mount := f.mountOf(h)
	switch {
	case mount == nil: // detached from the tree, or the process has ended
		return h, h.dev == f.mounts.root.dev
	case f.mounts.disks[device(mount)]:
		return h, true
	case mount.FSType == "overlay":
		return f.upper(h, mount)
	}
	f.foreign[h.dev] = true
	return h, false
}

// mountOf returns the mount that the holder sees the file through, or nil.
func (f *finder) mountOf(h held) *mountinfo.Info {
	if mount := byID(f.mounts.table, h.mount); mount != nil {
		return mount
	}
	if f.tableOf != h.process {
		f.tableOf, f.table = h.process, readTable(h.process)
	}
	return byID(f.table, h.mount)
}
