package changes

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"
)

// A segment is a file of records after a header line. A record on disk is
//
//	length of the body (2 bytes) · its complement (2) · crc32c of the body (4) · body
//
// all little-endian. A length that does not match its complement (as in RFC 1951) is damage: without
// it, a wrong length would look like the end that a crash leaves, which loses less. A body is a type
// byte, then fields: uvarints, varints, strings with a uvarint length, and last a string without.
const segmentHeader = "rsince journal 1\n"

const (
	recordChange = 'c' // kind, since, path
	recordRename = 'm' // kind, since, new name, path
	recordFailed = 'f' // kind, since, attempts, error, path
	recordFile   = 'h' // since, attempts, error, handle
	recordGap    = 'g' // since, until, reason, subtree
	recordSeal   = 's' // the segment is complete; nothing follows
)

const (
	frameLen = 8
	textMax  = 4096 // bytes of an error or a reason; the rest is cut off
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// errTorn says that the bytes end within a record, as after a crash; errDamaged, that they are not
// what was written.
var (
	errTorn    = errors.New("the last record is incomplete")
	errDamaged = errors.New("a record is not what was written")
)

// record is one decoded record; kind tells which field counts.
type record struct {
	kind   byte
	change Change
	gap    Gap
}

// appendChange adds the record of a change; of a path that a journal does not hold, what it holds
// instead.
func appendChange(b []byte, c Change) []byte {
	b, start := startFrame(b)
	switch {
	case c.Handle != "":
		b = append(b, recordFile)
		b = appendTime(b, c.Since)
		b = binary.AppendUvarint(b, uint64(c.Attempts))
		b = appendText(b, c.Error)
		b = append(b, c.Handle...)
		return endFrame(b, start)
	case c.Attempts > 0:
		b = append(b, recordFailed)
	case c.RenamedTo != "":
		b = append(b, recordRename)
	default:
		b = append(b, recordChange)
	}
	path, kind := held(c.Path, c.Kind)
	b = append(b, byte(kind))
	b = appendTime(b, c.Since)
	if c.Attempts > 0 {
		b = binary.AppendUvarint(b, uint64(c.Attempts))
		b = appendText(b, c.Error)
	} else if c.RenamedTo != "" {
		b = appendText(b, c.RenamedTo)
	}
	b = append(b, path...)
	return endFrame(b, start)
}

func appendGap(b []byte, g Gap) []byte {
	b, start := startFrame(b)
	b = append(b, recordGap)
	b = appendTime(b, g.Since)
	b = appendTime(b, g.Until)
	b = appendText(b, g.Reason)
	subtree, _ := held(g.Subtree, Subtree)
	b = append(b, subtree...)
	return endFrame(b, start)
}

func appendSeal(b []byte) []byte {
	b, start := startFrame(b)
	return endFrame(append(b, recordSeal), start)
}

func startFrame(b []byte) (grown []byte, start int) {
	return append(b, make([]byte, frameLen)...), len(b)
}

func endFrame(b []byte, start int) []byte {
	frame, body := b[start:start+frameLen], b[start+frameLen:]
	binary.LittleEndian.PutUint16(frame, uint16(len(body)))
	binary.LittleEndian.PutUint16(frame[2:], ^uint16(len(body)))
	binary.LittleEndian.PutUint32(frame[4:], crc32.Checksum(body, crcTable))
	return b
}

func appendText(b []byte, s string) []byte {
	s = s[:min(len(s), textMax)]
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendTime keeps nanoseconds since 1970; 0 stands for the zero time.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(b, 0)
	}
	return binary.AppendVarint(b, t.UnixNano())
}

// nextRecord decodes the record at the start of b and returns what follows it.
func nextRecord(b []byte) (rec record, rest []byte, err error) {
	if len(b) < frameLen {
		return record{}, b, errTorn
	}
	size := binary.LittleEndian.Uint16(b)
	switch {
	case size != ^binary.LittleEndian.Uint16(b[2:]) || size == 0:
		if len(bytes.TrimLeft(b, "\x00")) == 0 { // a file's end that was made but did not reach the disk
			return record{}, b, errTorn
		}
		return record{}, b, errDamaged
	case len(b)-frameLen < int(size):
		return record{}, b, errTorn
	}
	body, rest := b[frameLen:frameLen+int(size)], b[frameLen+int(size):]
	if crc32.Checksum(body, crcTable) != binary.LittleEndian.Uint32(b[4:]) {
		return record{}, b, errDamaged
	}
	rec, err = decodeBody(body)
	if err != nil {
		return record{}, b, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return rec, rest, nil
}

func decodeBody(body []byte) (record, error) {
	d := decoder{rest: body[1:]}
	rec := record{kind: body[0]}
	ok := true
	switch rec.kind {
	case recordChange:
		rec.change = Change{Kind: d.kind(), Since: d.time(), Path: d.remaining()}
		ok = validPath(rec.change.Path)
	case recordRename:
		rec.change = Change{Kind: d.kind(), Since: d.time(), RenamedTo: d.text(), Path: d.remaining()}
		ok = validPath(rec.change.Path) && validPath(rec.change.RenamedTo)
	case recordFailed:
		rec.change = Change{Kind: d.kind(), Since: d.time(), Attempts: d.count(), Error: d.text(), Path: d.remaining()}
		ok = validPath(rec.change.Path)
	case recordFile:
		rec.change = Change{Kind: Content, Since: d.time(), Attempts: d.count(), Error: d.text(), Handle: Handle(d.remaining())}
		ok = rec.change.Handle != ""
	case recordGap:
		rec.gap = Gap{Since: d.time(), Until: d.time(), Reason: d.text(), Subtree: d.remaining()}
		ok = validPath(rec.gap.Subtree)
	case recordSeal:
		ok = len(d.rest) == 0
	default:
		return record{}, fmt.Errorf("unknown record type %q", rec.kind)
	}
	if d.bad || !ok {
		return record{}, fmt.Errorf("malformed record of type %q", rec.kind)
	}
	return rec, nil
}

// decoder takes fields off a record's body; bad is set when one is not there.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) kind() Kind {
	if len(d.rest) == 0 || Kind(d.rest[0]) < Attributes || Kind(d.rest[0]) > Subtree {
		d.bad = true
		return 0
	}
	k := Kind(d.rest[0])
	d.rest = d.rest[1:]
	return k
}

func (d *decoder) count() int {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > math.MaxInt32 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return int(v)
}

func (d *decoder) time() time.Time {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.bad = true
		return time.Time{}
	}
	d.rest = d.rest[n:]
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(0, v)
}

func (d *decoder) text() string {
	n := d.count()
	if n > len(d.rest) {
		d.bad = true
		return ""
	}
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) remaining() string {
	s := string(d.rest)
	d.rest = nil
	return s
}
