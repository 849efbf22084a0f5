package changes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rsince/changes/durable"
)

// A segment being written. Segments of a journal are numbered; a larger number is younger.
type segment struct {
	path string
	file *os.File
	size int64 // whole records written
}

const segmentSuffix = ".segment"

func segmentPath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", number, segmentSuffix))
}

// segments lists the numbers of the segments in dir, oldest first.
func segments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		hex, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if n, err := strconv.ParseUint(hex, 16, 64); ok && err == nil && len(hex) == 16 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// createSegment starts the youngest segment of dir with what fill writes; the caller holds the
// directory's lock. The segment appears with all of that or not at all, and durably.
func createSegment(dir string, fill func(*segment) error) (*segment, error) {
	numbers, err := segments(dir)
	if err != nil {
		return nil, err
	}
	next := uint64(1)
	if len(numbers) > 0 {
		next = numbers[len(numbers)-1] + 1
	}
	s := &segment{path: segmentPath(dir, next)}
	s.file, err = createFile(s.path, func(f *os.File) error {
		s.file = f
		if err := s.write([]byte(segmentHeader)); err != nil {
			return err
		}
		return fill(s)
	})
	return s, err
}

// addSegment puts records into dir as a complete segment, durably. The caller holds the directory's
// lock.
func addSegment(dir string, records []byte) error {
	s, err := createSegment(dir, func(s *segment) error { return s.write(appendSeal(records)) })
	if err != nil {
		return err
	}
	return s.file.Close()
}

// write adds whole records, or none: what a failed write leaves is cut off again.
func (s *segment) write(records []byte) error {
	if _, err := s.file.WriteAt(records, s.size); err != nil {
		return errors.Join(err, s.file.Truncate(s.size))
	}
	s.size += int64(len(records))
	return nil
}

func (s *segment) sync() error { return unix.Fdatasync(int(s.file.Fd())) }

// seal marks the segment as complete and makes it durable.
func (s *segment) seal() error {
	if err := s.write(appendSeal(nil)); err != nil {
		return err
	}
	return s.sync()
}

// remove takes the segment out of the journal.
func (s *segment) remove() error { return errors.Join(s.file.Close(), os.Remove(s.path)) }

// readSegment gives every whole record of the file to visit. sealed reports whether the segment is
// complete; good is the length of what could be read; err wraps errTorn or errDamaged when
// something else follows.
func readSegment(path string, visit func(record)) (sealed bool, good int64, err error) {
	data, err := os.ReadFile(path)
	if unreadable(err) {
		return false, 0, fmt.Errorf("%w: %w", errDamaged, err)
	} else if err != nil {
		return false, 0, err
	}
	if len(data) < len(segmentHeader) || string(data[:len(segmentHeader)]) != segmentHeader {
		return false, 0, fmt.Errorf("%s: not a journal segment: %w", path, errDamaged)
	}
	records := data[len(segmentHeader):]
	for len(records) > 0 {
		good = int64(len(data) - len(records))
		rec, next, err := nextRecord(records)
		switch {
		case err != nil:
			return false, good, fmt.Errorf("%s at byte %d: %w", path, good, err)
		case rec.kind == recordSeal && len(next) > 0:
			return false, good, fmt.Errorf("%s goes on behind its end: %w", path, errDamaged)
		case rec.kind == recordSeal:
			return true, good, nil
		}
		visit(rec)
		records = next
	}
	return false, int64(len(data)), nil
}

// unreadable reports whether err says that the disk did not keep what it was given: EUCLEAN and
// EBADMSG are what xfs and ext4 call a checksum that does not match.
func unreadable(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EBADMSG)
}

// sealAt completes a segment that its writer left unsealed, cutting off what comes after good.
func sealAt(path string, good int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s := &segment{path: path, file: f, size: good}
	err = f.Truncate(good)
	if err == nil && good == 0 {
		err = s.write([]byte(segmentHeader))
	}
	if err == nil {
		err = s.seal()
	}
	return errors.Join(err, f.Close())
}

// createFile makes path with what fill writes, or replaces it, durably and at once. It goes by way
// of a file `new` beside it, so that only one may be made at a time. The caller closes the file.
func createFile(path string, fill func(*os.File) error) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), "new"), os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), ignoring(os.Remove(f.Name()), fs.ErrNotExist))
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

func ignoring(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}
