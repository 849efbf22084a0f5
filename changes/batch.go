package changes

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rsince/changes/durable"
)

// A Batch is what one run takes from a journal. It ends with Acknowledge or Return; if it ends with
// neither, as when the run is killed, the next cut returns all of it.
type Batch struct {
	ID      string   // empty when there was nothing to take
	Changes []Change // by path; those known only by handle first
	Gaps    []Gap
	Cut     time.Time // everything that finished before is in it, or is covered by a gap
	// Watch tells who watched; its Backend is empty when nobody did.
	Watch Status

	dir string
}

// ErrUnknownBatch is returned when a batch is acknowledged that a later cut has taken over.
var ErrUnknownBatch = errors.New("the batch is no longer the current one; its changes stay pending")

// batchFile is the content of the file `batch`.
type batchFile struct {
	ID      string `json:"id"`
	Through uint64 `json:"through"` // the youngest segment in it; all older ones are too
}

func writeBatch(dir string, through uint64) (id string, err error) {
	b := batchFile{ID: rand.Text(), Through: through}
	line, err := encodeLine(b, 0)
	if err != nil {
		return "", err
	}
	f, err := createFile(filepath.Join(dir, "batch"), func(f *os.File) error {
		_, err := f.Write(line)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("writing batch: %w", err)
	}
	return b.ID, f.Close()
}

func readBatch(dir, id string) (batchFile, error) {
	data, err := os.ReadFile(filepath.Join(dir, "batch"))
	if errors.Is(err, fs.ErrNotExist) {
		return batchFile{}, ErrUnknownBatch
	} else if err != nil {
		return batchFile{}, err
	}
	var b batchFile
	if err := decodeLine(data, &b); err != nil {
		return batchFile{}, fmt.Errorf("reading %s: %w", filepath.Join(dir, "batch"), err)
	}
	if b.ID != id {
		return batchFile{}, ErrUnknownBatch
	}
	return b, nil
}

// load reads the segments of batch id of the journal in dir.
func load(dir, id string) (*Batch, error) {
	batch := &Batch{ID: id, dir: dir}
	if id == "" {
		return batch, nil
	}
	b, err := readBatch(dir, id)
	if err != nil {
		return nil, err
	}
	numbers, err := segments(dir)
	if err != nil {
		return nil, err
	}
	numbers = slices.DeleteFunc(numbers, func(n uint64) bool { return n > b.Through })
	batch.Changes, batch.Gaps, err = read(dir, numbers, true)
	return batch, err
}

// Acknowledge says that the copy of everything in the batch is durable, except of what is carried:
// these changes stay in the journal. After it the batch's segments are gone. It returns
// ErrUnknownBatch, and all stays pending, if there was a later cut.
func (b *Batch) Acknowledge(carry []Change) error {
	if err := b.replace(carry); err != nil {
		return fmt.Errorf("acknowledging batch: %w", err)
	}
	if b.Watch.Backend != "" {
		return nil
	}
	if known := KnownUntil(b.dir); known.After(b.Cut) && known.Before(time.Now()) { // a watcher has begun meanwhile
		return nil
	}
	return setKnownUntil(b.dir, b.Cut)
}

// replace puts carry in the place of the batch's segments.
func (b *Batch) replace(carry []Change) error {
	unlock, err := lockDir(b.dir)
	if err != nil {
		return err
	}
	defer unlock()
	var file batchFile
	if b.ID != "" {
		if file, err = readBatch(b.dir, b.ID); err != nil {
			return err
		}
	}
	// The order is what makes a crash harmless: first what stays, then the batch, so that its id is
	// refused from now on, then its segments, which until then the next cut would take.
	if err := add(b.dir, carry); err != nil {
		return fmt.Errorf("keeping %d changes for the next run: %w", len(carry), err)
	}
	if b.ID == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(b.dir, "batch")); err != nil {
		return err
	}
	b.ID = ""
	if err := durable.SyncDir(b.dir); err != nil {
		return err
	}
	return removeSegments(b.dir, file.Through)
}

// removeSegments removes all segments up to number through.
func removeSegments(dir string, through uint64) error {
	numbers, err := segments(dir)
	for _, n := range numbers {
		if n <= through {
			err = errors.Join(err, os.Remove(segmentPath(dir, n)))
		}
	}
	return err
}

// Return gives the batch back: the next cut takes it again. After Acknowledge it does nothing.
func (b *Batch) Return() error {
	if b.ID == "" {
		return nil
	}
	unlock, err := lockDir(b.dir)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = readBatch(b.dir, b.ID)
	b.ID = ""
	if errors.Is(err, ErrUnknownBatch) {
		return nil
	} else if err != nil {
		return err
	}
	return os.Remove(filepath.Join(b.dir, "batch"))
}

// Add puts changes into the journal in dir from beside its writer, durably.
func Add(dir string, changes []Change) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer unlock()
	return add(dir, changes)
}

func add(dir string, changes []Change) error {
	if len(changes) == 0 {
		return nil
	}
	var records []byte
	for _, c := range changes {
		records = appendChange(records, c)
	}
	return addSegment(dir, records)
}

// Paths counts the changes of known paths. A file known only by its handle is often not in the source
// at all, but elsewhere on its file system; the next run finds out.
func Paths(changes []Change) (n int) {
	for _, c := range changes {
		if c.Path != "" {
			n++
		}
	}
	return n
}

// Pending reads all that is in the journal in dir, without taking it.
func Pending(dir string) ([]Change, []Gap, error) {
	for {
		numbers, err := segments(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, nil
		} else if err != nil {
			return nil, nil, err
		}
		changes, gaps, err := read(dir, numbers, false)
		if !errors.Is(err, fs.ErrNotExist) { // else one was acknowledged or renewed meanwhile
			return changes, gaps, err
		}
	}
}

// read merges segments. Damage becomes a gap. Unless all of them have to be sealed, one that is being
// written to may end anywhere.
func read(dir string, numbers []uint64, sealed bool) ([]Change, []Gap, error) {
	m := merger{paths: newPending(), failed: map[string]Change{}, renamed: map[string]string{}, files: map[Handle]Change{}}
	for _, n := range numbers {
		path := segmentPath(dir, n)
		complete, _, err := readSegment(path, m.visit)
		if err == nil && sealed && !complete {
			err = fmt.Errorf("%s has no end: %w", path, errDamaged)
		}
		gap, damaged := damage(err, time.Time{})
		switch {
		case errors.Is(err, errTorn) && !sealed:
		case damaged:
			m.addGap(gap)
		case err != nil:
			return nil, nil, err
		}
	}
	return m.changes(), m.gaps, nil
}

// merger collects records of several segments.
type merger struct {
	paths   *pending
	failed  map[string]Change
	renamed map[string]string
	files   map[Handle]Change
	gaps    []Gap
}

func (m *merger) visit(rec record) {
	switch c := rec.change; rec.kind {
	case recordFailed:
		m.addFailed(c)
	case recordChange:
		m.paths.record(c.Path, c.Kind, c.Since)
	case recordRename:
		m.paths.record(c.Path, c.Kind, c.Since)
		m.renamed[c.Path] = c.RenamedTo
	case recordFile:
		m.addFile(c)
	case recordGap:
		m.addGap(rec.gap)
	}
}

func (m *merger) addFailed(c Change) {
	if f, ok := m.failed[c.Path]; ok {
		c = f.joined(c)
	}
	m.failed[c.Path] = c
}

func (m *merger) addFile(c Change) {
	if f, ok := m.files[c.Handle]; ok {
		c = f.joined(c)
	}
	m.files[c.Handle] = c
}

// addGap keeps one of the gaps that differ only in time, as when run after run failed.
func (m *merger) addGap(g Gap) {
	for i := range m.gaps {
		k := &m.gaps[i]
		if k.Reason != g.Reason || k.Subtree != g.Subtree {
			continue
		}
		if g.Since.Before(k.Since) {
			k.Since = g.Since
		}
		if g.Until.After(k.Until) {
			k.Until = g.Until
		}
		return
	}
	m.gaps = append(m.gaps, g)
}

// joined is what two changes of one path come to, of which next was recorded later.
func (c Change) joined(next Change) Change {
	c.Kind = c.Kind.merge(next.Kind)
	c.Fleeting = c.Fleeting || next.Fleeting
	if next.Since.Before(c.Since) {
		c.Since = next.Since
	}
	if next.Attempts >= c.Attempts && next.Attempts > 0 {
		c.Attempts, c.Error = next.Attempts, next.Error
	}
	return c
}

func (m *merger) changes() []Change {
	all := make([]Change, 0, m.paths.count+len(m.failed)+len(m.files))
	for _, c := range m.files {
		all = append(all, c)
	}
	for c := range m.paths.all() {
		if f, ok := m.failed[c.Path]; ok {
			c = f.joined(c)
			delete(m.failed, c.Path)
		}
		c.RenamedTo = m.renamed[c.Path]
		all = append(all, c)
	}
	for _, c := range m.failed {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Handle, b.Handle))
	})
	return all
}
