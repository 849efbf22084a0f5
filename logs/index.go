package logs

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"

	"rsince/changes/durable"
)

// readIndex returns the records of the file, the last one first. A line that cannot be read comes as
// an error; what follows the last newline is a line being written, and no error.
func readIndex(path string) iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		if err != nil {
			yield(record{}, fmt.Errorf("reading the run list: %w", err))
			return
		}
		defer f.Close()
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			yield(record{}, fmt.Errorf("reading %s: %w", path, err))
			return
		}
		for rec, err := range readRecords(f, size) {
			if err != nil {
				err = fmt.Errorf("reading %s: %w", path, err)
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

func readRecords(r io.ReaderAt, size int64) iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		lines := readBackwards(r, size)
		for torn := true; ; torn = false {
			line, offset, err := lines.next()
			if err == io.EOF {
				return
			}
			if err == nil && len(line) == 0 {
				continue
			}
			var rec record
			if err == nil {
				rec, err = decodeLine(line)
			}
			if err != nil && torn {
				continue
			}
			if err != nil {
				err = fmt.Errorf("at byte %d: %w", offset, err)
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

// addToIndex writes the record of a run that ended into the index, durably, unless it is there. The
// caller holds the lock.
func (l *List) addToIndex(rec record) error {
	f, err := os.OpenFile(l.indexPath(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // it has been synced, or there is an error already
	end, err := mend(f)
	if err != nil {
		return err
	}
	if end == 0 { // before anything is in it, so that what is can be relied on
		if err := durable.SyncDir(filepath.Dir(l.indexPath())); err != nil {
			return err
		}
	}
	newest, found := lookUp(f, end, rec.Run)
	if !found {
		rec.Owner = Owner{}
		rec.Indexed = latest(time.Now().UTC(), rec.Started, newest)
		line, err := encodeLine(rec)
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(line, end); err != nil {
			return errors.Join(err, f.Truncate(end))
		}
	}
	// Also when it was found: who wrote it may have been killed before this.
	return f.Sync()
}

// mend makes the index end with a whole line and returns where that is. A torn one is removed: its
// writer was killed before it could remove the active record, from which it is written again.
func mend(f *os.File) (end int64, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	line, start, err := readBackwards(f, size).next()
	if err != nil && !errors.Is(err, ErrDamaged) {
		return 0, err
	}
	if start == size {
		return size, nil
	}
	if _, err := decodeLine(line); err != nil {
		return start, f.Truncate(start)
	}
	_, err = f.WriteAt([]byte("\n"), size)
	return size + 1, err
}

// lookUp returns when the last record was written into the index, and whether run is in it.
func lookUp(r io.ReaderAt, size int64, run Run) (newest time.Time, found bool) {
	for rec, err := range readRecords(r, size) {
		if err != nil {
			continue
		}
		newest = latest(newest, rec.Indexed)
		if rec.ID == run.ID {
			return newest, true
		}
		if rec.Indexed.Before(run.Started) {
			break
		}
	}
	return newest, false
}

func latest(times ...time.Time) time.Time {
	var last time.Time
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
