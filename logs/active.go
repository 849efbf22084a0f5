package logs

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes/durable"
)

// An active record is a file of lines: what was known when the run began, then what became known,
// at last how it ended. The last whole line holds.

// activeSize is what is reserved for these lines on the disk, so that a run whose log has filled it
// can still say how it ended.
const activeSize = 16 << 10

// createActive makes the file of a run that begins, durable and whole from the moment it has its
// name. os.ErrExist says that the id is taken.
func (l *List) createActive(rec record) (*os.File, error) {
	line, err := encodeLine(rec)
	if err != nil {
		return nil, err
	}
	path := l.activePath(rec.ID)
	temporary := strings.TrimSuffix(path, ".json") + ".tmp"
	if err := durable.MakeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	err = writeActive(f, line)
	if err == nil {
		// Unlike rename, link does not take the place of another run's record.
		err = os.Link(temporary, path)
	}
	err = errors.Join(err, os.Remove(temporary))
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func writeActive(f *os.File, line []byte) error {
	// Not every file system can reserve; if this one is full, the write will tell.
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, activeSize)
	if _, err := f.Write(line); err != nil {
		return err
	}
	return f.Sync()
}

// active returns the active records, the latest begun first. With ErrDamaged comes what the name of
// the file tells of the run.
func (l *List) active() iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		entries, err := os.ReadDir(filepath.Join(l.dir, "active"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			yield(record{}, fmt.Errorf("reading the run list: %w", err))
			return
		}
		for _, entry := range slices.Backward(entries) {
			id, isRecord := strings.CutSuffix(entry.Name(), ".json")
			if _, ok := parseID(id); !ok || !isRecord {
				continue
			}
			rec, err := l.readActive(id)
			if errors.Is(err, os.ErrNotExist) { // ended meanwhile; the index has it
				continue
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

func (l *List) readActive(id string) (record, error) {
	path := l.activePath(id)
	text, err := os.ReadFile(path)
	if err != nil {
		return record{}, err
	}
	lines := bytes.Split(text, []byte("\n"))
	for _, line := range slices.Backward(lines) {
		if rec, err := decodeLine(line); err == nil && rec.ID == id {
			return rec, nil
		}
	}
	started, _ := parseID(id)
	known := record{Run: Run{ID: id, State: Running, Started: started, PendingAfter: -1}}
	return known, fmt.Errorf("%w: %s", ErrDamaged, path)
}

// sweepActive removes what runs left that were killed while they began. A run begins in a moment, so
// after an hour nobody will finish it.
func (l *List) sweepActive() error {
	leftovers, err := filepath.Glob(filepath.Join(l.dir, "active", "*.tmp"))
	for _, path := range leftovers {
		info, statErr := os.Stat(path)
		if statErr == nil && time.Since(info.ModTime()) > time.Hour {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}
