package logs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"rsince/changes/durable"
)

// Expire removes the oldest finished runs of a profile, logs and records, so that keep are left; the
// newest that was OK and the newest Failure stay whatever their age. One in a hundred more than keep
// may be there before anything is removed, because then the whole index is written anew.
func (l *List) Expire(profile string, keep int) error {
	keep = max(keep, 0)
	count, err := l.count(profile, keep)
	if err != nil {
		return fmt.Errorf("expiring runs of %s: %w", profile, err)
	}
	if count <= keep+keep/100 {
		return nil
	}
	unlock, err := l.lock()
	if err != nil {
		return fmt.Errorf("expiring runs of %s: %w", profile, err)
	}
	err = errors.Join(l.remove(l.expired(profile, keep)), unlock())
	if err != nil {
		return fmt.Errorf("expiring runs of %s: %w", profile, err)
	}
	return nil
}

// shortestLine is less than a record takes in the index, so that a short index need not be read.
const shortestLine = 200

// count returns how many records of the profile the index has, or 0 where it is too short for more
// than keep. It looks for the profile's name as it is encoded instead of decoding each line, for it
// is called after every run; within a value the quotes would be escaped.
func (l *List) count(profile string, keep int) (int, error) {
	f, err := os.Open(l.indexPath())
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < int64(keep)*shortestLine {
		return 0, err
	}
	name, err := json.Marshal(profile)
	if err != nil {
		return 0, err
	}
	member := append([]byte(`,"profile":`), name...)
	count := 0
	for lines := bufio.NewReaderSize(f, maxLine); ; {
		line, err := lines.ReadSlice('\n')
		if bytes.Contains(line, member) {
			count++
		}
		if err == io.EOF {
			return count, nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return 0, err
		}
	}
}

// expired returns the ids of the runs to be removed.
func (l *List) expired(profile string, keep int) map[string]bool {
	expired := make(map[string]bool)
	count, success, failure := 0, false, false
	for rec, err := range readIndex(l.indexPath()) {
		if err != nil || rec.Profile != profile {
			continue
		}
		if rec.Mode == Verify {
			rec.State = Skipped // neither success nor failure of a copy
		}
		last := rec.State == OK && !success || rec.State.Failure() && !failure
		success = success || rec.State == OK
		failure = failure || rec.State.Failure()
		if count++; count > keep && !last {
			expired[rec.ID] = true
		}
	}
	return expired
}

// remove takes runs out of the index, their logs first: after a crash between the two the records
// are still there to be expired again. The caller holds the lock.
func (l *List) remove(ids map[string]bool) error {
	if len(ids) == 0 {
		return nil
	}
	for id := range ids {
		if err := l.removeLog(id); err != nil {
			return err
		}
	}
	f, err := os.Open(l.indexPath())
	if err != nil {
		return err
	}
	defer f.Close()
	return durable.Replace(l.indexPath(), func(w io.Writer) error { return copyIndex(w, f, ids) })
}

func (l *List) removeLog(id string) error {
	path := l.logPath(id)
	for _, path := range []string{path, path + ".zst"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	// The month's directory goes with its last log; until then this fails, and should.
	os.Remove(filepath.Dir(path))
	return nil
}

// copyIndex copies the lines of an index but for the records with these ids. What cannot be read
// stays: perhaps someone can tell what it was.
func copyIndex(w io.Writer, r io.Reader, without map[string]bool) error {
	out := bufio.NewWriter(w)
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF { // a torn line, if anything
			return out.Flush()
		}
		if err != nil {
			return err
		}
		if rec, err := decodeLine(bytes.TrimSuffix(line, []byte("\n"))); err == nil && without[rec.ID] {
			continue
		}
		out.Write(line) // Flush returns its error
	}
}
