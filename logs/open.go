package logs

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"rsince/changes/durable"
)

// OpenLog returns the log of a run, to be closed by the caller; id is as for Get. Of a run that goes
// on or was killed it holds what had been written when it was opened, up to the last whole line. A
// damaged log is read as far as it can be, then the error says so. os.ErrNotExist: the run is
// known, its log is not there.
func (l *List) OpenLog(id string) (io.ReadCloser, error) {
	run, err := l.Get(id)
	if err != nil {
		return nil, err
	}
	r, err := l.openLog(run.ID)
	if err != nil {
		return nil, fmt.Errorf("opening the log of run %s: %w", run.ID, err)
	}
	return r, nil
}

// openLog looks for the plain log first: it is removed after the compressed one is there.
func (l *List) openLog(id string) (io.ReadCloser, error) {
	path := l.logPath(id)
	f, err := os.Open(path)
	if err == nil {
		return wholeLines(f)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err = os.Open(path + ".zst")
	if err != nil {
		return nil, err
	}
	decoder, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &compressedLog{decoder, f}, nil
}

type plainLog struct {
	io.Reader
	io.Closer
}

// wholeLines returns a reader of f up to the last newline it has now.
func wholeLines(f *os.File) (io.ReadCloser, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	_, end, err := readBackwards(f, size).next()
	if err != nil && !errors.Is(err, ErrDamaged) {
		return nil, errors.Join(err, f.Close())
	}
	return plainLog{io.NewSectionReader(f, 0, end), f}, nil
}

type compressedLog struct {
	decoder *zstd.Decoder
	file    *os.File
}

func (c *compressedLog) Read(p []byte) (int, error) {
	n, err := c.decoder.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("reading %s: %w", c.file.Name(), err)
	}
	return n, err
}

func (c *compressedLog) Close() error {
	c.decoder.Close()
	return c.file.Close()
}

func (l *List) hasLog(id string) bool {
	for _, path := range []string{l.logPath(id), l.logPath(id) + ".zst"} {
		if _, err := os.Lstat(path); err == nil {
			return true
		}
	}
	return false
}

// compress replaces the log by a compressed one of its whole lines and the line end, if any. A log
// that is compressed already, or is not there, stays so. One caller at a time.
func (l *List) compress(id, end string) error {
	path := l.logPath(id)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	plain, err := wholeLines(f)
	if err != nil {
		return err
	}
	defer plain.Close()
	err = durable.Replace(path+".zst", func(w io.Writer) error {
		encoder, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		_, copyErr := io.Copy(encoder, plain)
		_, endErr := io.WriteString(encoder, end)
		return errors.Join(copyErr, endErr, encoder.Close())
	})
	if err != nil {
		return fmt.Errorf("compressing %s: %w", path, err)
	}
	return os.Remove(path)
}
