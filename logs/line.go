package logs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
)

// A record is a line of JSON whose last member is the CRC-32C of what stands before it:
//
//	{"id":"20261121T025959Z-4f2a",…,"message":"","crc":"9ae0daaf"}
//
// so a line is believed whole or not at all, and jq can still read the file.
const (
	sumFormat = `,"crc":"%08x"}`
	sumLength = len(`,"crc":"9ae0daaf"}`)
	// maxLine bounds what is held in memory while looking for the beginning of a line.
	maxLine = 64 << 10
)

// encodeLine returns rec as a line with its newline.
func encodeLine(rec record) ([]byte, error) {
	line, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encoding run %s: %w", rec.ID, err)
	}
	line = line[:len(line)-1]
	return fmt.Appendf(line, sumFormat+"\n", checksum(line)), nil
}

// decodeLine reads a line without its newline.
func decodeLine(line []byte) (record, error) {
	if len(line) < sumLength {
		return record{}, fmt.Errorf("%w: %d bytes are too few", ErrDamaged, len(line))
	}
	body := line[:len(line)-sumLength]
	if want := fmt.Appendf(nil, sumFormat, checksum(body)); !bytes.Equal(line[len(body):], want) {
		return record{}, fmt.Errorf("%w: wrong checksum", ErrDamaged)
	}
	var rec record
	if err := json.Unmarshal(line, &rec); err != nil {
		return record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if _, ok := parseID(rec.ID); !ok {
		return record{}, fmt.Errorf("%w: %q is no id", ErrDamaged, rec.ID)
	}
	return rec, nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// A backwards reads the lines of a file from its end to its beginning. The first one it returns is
// what stands after the last newline: empty, or a line not yet or never completely written.
type backwards struct {
	r     io.ReaderAt
	start int64  // where buf begins in the file; what is before it has not been read
	buf   []byte // what has been read and not returned
	done  bool
}

func readBackwards(r io.ReaderAt, size int64) *backwards { return &backwards{r: r, start: size} }

// next returns a line without its newline, and where in the file it begins. It is nil with an error
// where it could not be read or is longer than maxLine, and the lines before it follow; io.EOF says
// that there are none.
func (b *backwards) next() (line []byte, offset int64, err error) {
	long := false
	for {
		i := bytes.LastIndexByte(b.buf, '\n')
		if i >= 0 || b.start == 0 {
			line, offset = b.buf[i+1:], b.start+int64(i+1)
			if b.done {
				return nil, 0, io.EOF
			}
			b.done = i < 0
			b.buf = b.buf[:max(i, 0)]
			if long {
				return nil, offset, fmt.Errorf("%w: longer than %d bytes", ErrDamaged, maxLine)
			}
			return line, offset, nil
		}
		if len(b.buf) > maxLine {
			long, b.buf = true, nil
		}
		if err := b.fill(); err != nil {
			return nil, b.start, err
		}
	}
}

// fill reads the block before buf. A block that cannot be read is passed over.
func (b *backwards) fill() error {
	const block = 64 << 10
	size := min(b.start, block)
	b.start -= size
	buf := make([]byte, size, size+int64(len(b.buf)))
	n, err := b.r.ReadAt(buf, b.start)
	if err != nil && err != io.EOF {
		b.buf = nil
		return err
	}
	// Fewer bytes than there were a moment ago: a writer has removed a torn line.
	b.buf = append(buf[:n], b.buf...)
	return nil
}
