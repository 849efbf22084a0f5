package changes

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy is returned by Open when another process writes the journal.
var ErrBusy = errors.New("the journal has another writer")

// A Journal is the writing end of a profile's journal: a Recorder that keeps what it is told on
// disk. Its directory holds
//
//	NUMBER.segment  what was recorded, oldest first; the writer appends to the youngest of its own
//	batch           which segments the last cut took, and under which id
//	known           until when everything that changed is known
//	new             a segment or a batch that is being made
//	writer          locked by the writer while it lives
//	lock            locked for the moment of a cut, an acknowledgement, an addition
//
// Memory holds all that was recorded since the last cut, so that what the disk refuses can be
// written later.
type Journal struct {
	dir    string
	writer *os.File

	// disk is taken before mu by what makes durable and so takes its time. Record only ever waits
	// for mu.
	disk sync.Mutex

	mu       sync.Mutex
	paths    *pending
	renamed  map[string]string // where the names went that a rename took away
	files    map[Handle]time.Time
	gaps     []Gap
	buf      []byte   // records not yet written to out
	out      *segment // nil until the first Flush after a cut
	unsynced bool     // out has records that are not durable
	refused  bool     // out could not be written to; Flush will try again
	rewrite  bool     // buf and out are not complete: write again all that memory holds
	renewAt  int64    // the size at which out is replaced by what memory holds
	closed   bool
}

const (
	flushAt = 64 << 10 // bytes of records that are written without waiting for Flush
	holdAt  = 1 << 20  // bytes of records that are held until Flush; beyond, it writes from memory
	fileMax = 100_000  // files known only by handle; more become a gap
	gapMax  = 1_000    // gaps; more become one
	// renamedMax bounds the new names that are kept for old ones; those of more renames are
	// forgotten, which no copy depends on.
	renamedMax = 10_000
	// spread is how much more a segment may hold than memory does, for a name that comes and goes
	// all day is one node but many records; spreadMin keeps short segments as they are.
	spread, spreadMin = 4, 4 << 20
)

// Open makes the caller the writer of the journal in dir, which is created if need be. What an
// earlier writer left incomplete is cut off and recorded as a gap. It returns ErrBusy if there is
// another writer.
func Open(dir string) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	writer, err := lockFile(filepath.Join(dir, "writer"), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, ErrBusy
	} else if err != nil {
		return nil, err
	}
	if err := mend(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("mending journal %s: %w", dir, err), writer.Close())
	}
	j := &Journal{dir: dir, writer: writer}
	j.reset()
	return j, nil
}

func (j *Journal) reset() {
	j.paths, j.renamed, j.files, j.gaps = newPending(), map[string]string{}, map[Handle]time.Time{}, nil
	j.buf, j.out = nil, nil
	j.unsynced, j.refused, j.rewrite = false, false, false
}

// Record implements Recorder.
func (j *Journal) Record(path string, kind Kind) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.record(Change{Path: path, Kind: kind, Since: time.Now()})
}

// RecordRename implements Recorder.
func (j *Journal) RecordRename(from, to string, dir bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	was, is := Gone, Content
	if dir {
		was, is = Subtree, Subtree
	}
	to, is = held(to, is)
	j.record(Change{Path: from, Kind: was, Since: now, RenamedTo: to})
	j.record(Change{Path: to, Kind: is, Since: now})
}

// record adds a change if it tells anything new.
func (j *Journal) record(c Change) {
	path, kind := j.paths.record(c.Path, c.Kind, c.Since)
	if kind == 0 {
		return
	}
	if path != c.Path {
		c.RenamedTo = "" // of a name that is no longer told
	}
	if c.RenamedTo != "" && len(j.renamed) < renamedMax {
		j.renamed[path] = c.RenamedTo
	}
	c.Path, c.Kind = path, kind
	j.add(appendChange(j.buf, c))
}

// RecordFile implements Recorder.
func (j *Journal) RecordFile(handle Handle) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, known := j.files[handle]; known {
		return
	}
	now := time.Now()
	if len(j.files) >= fileMax || handle == "" {
		j.recordGap(Gap{Reason: "too many files were written that have no known name", Subtree: ".", Since: now})
		return
	}
	j.files[handle] = now
	j.add(appendChange(j.buf, Change{Handle: handle, Kind: Content, Since: now}))
}

// RecordGap implements Recorder.
func (j *Journal) RecordGap(gap Gap) { j.noteGap(gap) }

// noteGap is RecordGap and reports whether the gap was not yet known.
func (j *Journal) noteGap(gap Gap) (news bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.recordGap(gap)
}

// recordGap notes a gap that goes on only once: when it began is what counts.
func (j *Journal) recordGap(gap Gap) (news bool) {
	if gap.Until.IsZero() {
		gap.Until = time.Now()
	}
	gap.Subtree, _ = held(gap.Subtree, Subtree)
	if len(j.gaps) >= gapMax {
		gap.Reason, gap.Subtree = "there were too many gaps to tell them apart", "."
		gap.Since = earliestGap(append(j.gaps, gap))
	}
	for _, known := range j.gaps {
		if known.Reason == gap.Reason && known.Subtree == gap.Subtree && !gap.Since.Before(known.Since) {
			return false
		}
	}
	j.gaps = append(j.gaps, gap)
	j.add(appendGap(j.buf, gap))
	return true
}

func earliestGap(gaps []Gap) time.Time {
	return slices.MinFunc(gaps, func(a, b Gap) int { return a.Since.Compare(b.Since) }).Since
}

// add takes the grown buffer, and writes it if it has become long.
func (j *Journal) add(buf []byte) {
	j.buf = buf
	switch {
	case j.closed || j.rewrite:
		j.buf = nil
	case len(j.buf) >= holdAt:
		j.buf, j.rewrite = nil, true
	case len(j.buf) >= flushAt && j.out != nil && !j.refused:
		j.refused = j.writeBuf() != nil
	}
}

func (j *Journal) writeBuf() error {
	if err := j.out.write(j.buf); err != nil {
		return err
	}
	j.buf, j.unsynced, j.refused = j.buf[:0], true, false
	return nil
}

// Flush makes everything recorded so far durable.
func (j *Journal) Flush() error {
	j.disk.Lock()
	defer j.disk.Unlock()
	return j.flush()
}

func (j *Journal) flush() error {
	j.mu.Lock()
	err := j.keepPlace()
	if err == nil {
		err = j.write()
	}
	out, unsynced := j.out, j.unsynced
	j.mu.Unlock()
	if err == nil && unsynced {
		err = j.syncOut(out)
	}
	if err != nil {
		return fmt.Errorf("writing journal %s: %w", j.dir, err)
	}
	return nil
}

// keepPlace notices that the journal was removed or replaced under its writer, by a restored state
// directory for example, and takes the place of what is there now. What waited in it may be lost.
func (j *Journal) keepPlace() error {
	if j.closed || inPlace(j.writer, j.writer.Name()) && (j.out == nil || inPlace(j.out.file, j.out.path)) {
		return nil
	}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return err
	}
	if !inPlace(j.writer, j.writer.Name()) {
		writer, err := lockFile(j.writer.Name(), unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			return err
		}
		j.writer.Close()
		j.writer = writer
	}
	if j.out != nil {
		j.out.file.Close()
		j.out = nil
	}
	j.recordGap(Gap{Reason: "the journal was removed or replaced under the watcher", Subtree: ".", Since: time.Unix(0, 0)})
	j.rewrite = true
	return nil
}

// inPlace reports whether path leads to the open file.
func inPlace(f *os.File, path string) bool {
	open, openErr := f.Stat()
	found, err := os.Stat(path)
	return openErr == nil && err == nil && os.SameFile(open, found)
}

// syncOut makes durable what was written to out before.
func (j *Journal) syncOut(out *segment) error {
	j.mu.Lock()
	j.unsynced = false
	j.mu.Unlock()
	err := out.sync()
	if err != nil {
		// The kernel may have dropped the pages that it could not write; a second sync would
		// succeed without them.
		j.mu.Lock()
		j.rewrite = true
		j.mu.Unlock()
	}
	return err
}

// write gives the segment all that it lacks.
func (j *Journal) write() error {
	switch {
	case j.closed:
		return os.ErrClosed
	case j.rewrite, j.out == nil && len(j.buf) > 0, j.out != nil && j.out.size > j.renewAt:
		return j.renew()
	case len(j.buf) > 0:
		return j.writeBuf()
	}
	return nil
}

// renew makes a segment of all that memory holds in place of the one before, durably.
func (j *Journal) renew() error {
	unlock, err := lockDir(j.dir)
	if err != nil {
		return err
	}
	defer unlock()
	fresh, err := createSegment(j.dir, j.writeAll)
	if err != nil {
		return err
	}
	old := j.out
	j.buf, j.out, j.renewAt = nil, fresh, spread*fresh.size+spreadMin
	j.unsynced, j.refused, j.rewrite = false, false, false
	if old == nil {
		return nil
	}
	return old.remove()
}

// writeAll writes all that was recorded since the cut.
func (j *Journal) writeAll(s *segment) error {
	buf := make([]byte, 0, flushAt+1<<16)
	for c := range j.all() {
		c.history(func(kind Kind) {
			c.Kind = kind
			buf = appendChange(buf, c)
		})
		if len(buf) < flushAt {
			continue
		}
		if err := s.write(buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	for _, g := range j.gaps {
		buf = appendGap(buf, g)
	}
	return s.write(buf)
}

func (j *Journal) all() iter.Seq[Change] {
	return func(yield func(Change) bool) {
		for handle, since := range j.files {
			if !yield(Change{Handle: handle, Kind: Content, Since: since}) {
				return
			}
		}
		for c := range j.paths.all() {
			c.RenamedTo = j.renamed[c.Path]
			if !yield(c) {
				return
			}
		}
	}
}

// Beat makes everything recorded so far durable and then notes that all changes before t are among
// it. The caller has taken t before it drained the watch.
func (j *Journal) Beat(t time.Time) error {
	j.disk.Lock()
	defer j.disk.Unlock()
	if err := j.flush(); err != nil {
		return err
	}
	return setKnownUntil(j.dir, t)
}

// cut closes what was recorded so far, together with all older segments, under a new batch id. The
// id is empty when there is nothing.
func (j *Journal) cut() (id string, err error) {
	j.disk.Lock()
	defer j.disk.Unlock()
	// The bulk goes to the disk now, so that Record does not have to wait while the rest does.
	if err := j.flush(); err != nil {
		return "", err
	}
	if err := j.seal(); err != nil {
		return "", err
	}
	unlock, err := lockDir(j.dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	numbers, err := segments(j.dir)
	if err != nil || len(numbers) == 0 {
		return "", err
	}
	return writeBatch(j.dir, numbers[len(numbers)-1])
}

// seal completes the segment and lets memory begin anew.
func (j *Journal) seal() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.write()
	if err == nil && j.out != nil {
		if err = j.out.seal(); err != nil {
			j.rewrite = true
		}
	}
	if err != nil {
		return fmt.Errorf("closing a segment of journal %s: %w", j.dir, err)
	}
	if j.out != nil {
		err = j.out.file.Close()
	}
	j.reset()
	return err
}

// Close writes what is left and lets another process be the writer. What is recorded later is lost.
func (j *Journal) Close() error {
	j.disk.Lock()
	defer j.disk.Unlock()
	err := j.seal()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	if j.out != nil {
		err = errors.Join(err, j.out.file.Close())
	}
	j.reset()
	j.closed = true
	return errors.Join(err, j.writer.Close())
}

// lockFile opens path, creating it, and takes a flock(2) on it.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), f.Close())
	}
	return f, nil
}

// lockDir waits for the lock on the segments of a journal, which is only ever held for moments.
func lockDir(dir string) (unlock func(), err error) {
	f, err := lockFile(filepath.Join(dir, "lock"), unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}
