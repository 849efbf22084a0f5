package changes

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var someTime = time.Unix(0, 1_700_000_000_123_456_789)

// someRecords are one of each type, with what is hard about them.
func someRecords() []record {
	return []record{
		{kind: recordChange, change: Change{Path: "a/b", Kind: Content, Since: someTime}},
		{kind: recordChange, change: Change{Path: ".", Kind: Directory}},
		{kind: recordChange, change: Change{Path: "\n\xff/-x", Kind: Gone, Since: someTime}},
		{kind: recordFailed, change: Change{Path: "f", Kind: Attributes, Since: someTime, Attempts: 3, Error: "permission denied"}},
		{kind: recordFile, change: Change{Kind: Content, Since: someTime, Handle: "\x01\x00\x00\x00abcdefgh"}},
		{kind: recordFile, change: Change{Kind: Content, Since: someTime, Handle: "h", Attempts: 2, Error: "why"}},
		{kind: recordGap, gap: Gap{Reason: "overflow", Subtree: "a", Since: someTime, Until: someTime.Add(time.Second)}},
		{kind: recordGap, gap: Gap{Subtree: "."}},
		{kind: recordSeal},
	}
}

func appendRecord(b []byte, rec record) []byte {
	switch rec.kind {
	case recordGap:
		return appendGap(b, rec.gap)
	case recordSeal:
		return appendSeal(b)
	}
	return appendChange(b, rec.change)
}

func TestRecordRoundTrip(t *testing.T) {
	for _, want := range someRecords() {
		b := appendRecord([]byte("before"), want)
		got, rest, err := nextRecord(append(b, "behind"...)[len("before"):])
		if err != nil || string(rest) != "behind" || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %q, %v; want %+v", got, rest, err, want)
		}
	}
}

func TestRecordHoldsEverything(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("e", 1<<20)
	for _, c := range []Change{
		{Path: strings.Repeat("dir/", 1<<18) + "x", Kind: Content},
		{Path: strings.Repeat("n", 300), Kind: Content},
		{Path: "../../etc", Kind: Content},
		{Path: "a", Kind: 99},
		{Path: "", Kind: Gone},
		{Path: "p", Kind: Content, Attempts: 1, Error: text},
	} {
		rec, rest, err := nextRecord(appendChange(nil, c))
		if err != nil || len(rest) > 0 {
			t.Errorf("%.20q: %v", c.Path, err)
		}
		if rec.change.Path != c.Path && rec.change.Kind != Subtree {
			t.Errorf("%.20q came back as %.20q %v", c.Path, rec.change.Path, rec.change.Kind)
		}
	}
	rec, _, err := nextRecord(appendGap(nil, Gap{Reason: text, Subtree: "a//"}))
	if err != nil || rec.gap.Subtree != "." || len(rec.gap.Reason) != textMax {
		t.Errorf("gap: %v", err)
	}
}

func TestRecordTornOrDamaged(t *testing.T) {
	whole := appendChange(nil, Change{Path: "some/path", Kind: Content, Since: someTime})
	for n := range len(whole) {
		if _, _, err := nextRecord(whole[:n]); !errors.Is(err, errTorn) {
			t.Errorf("%d of %d bytes: %v, want torn", n, len(whole), err)
		}
	}
	if _, _, err := nextRecord(make([]byte, 4096)); !errors.Is(err, errTorn) {
		t.Errorf("a tail that did not reach the disk: %v, want torn", err)
	}
	more := append(slices.Clone(whole), whole...)
	for i := range whole {
		for bit := range 8 {
			flipped := slices.Clone(more)
			flipped[i] ^= 1 << bit
			if _, _, err := nextRecord(flipped); !errors.Is(err, errDamaged) {
				t.Errorf("byte %d bit %d flipped: %v, want damaged", i, bit, err)
			}
		}
	}
}

func FuzzNextRecord(f *testing.F) {
	for _, rec := range someRecords() {
		f.Add(appendRecord(nil, rec))
	}
	f.Add([]byte{})
	f.Add(make([]byte, 20))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, rest, err := nextRecord(b)
		if err != nil {
			if !errors.Is(err, errTorn) && !errors.Is(err, errDamaged) {
				t.Fatalf("error is of neither kind: %v", err)
			}
			return
		}
		if len(rest) >= len(b) || !bytes.HasSuffix(b, rest) {
			t.Fatal("what follows is not what follows")
		}
		again, _, err := nextRecord(appendRecord(nil, rec))
		if err != nil || !reflect.DeepEqual(again.normal(), rec.normal()) {
			t.Fatalf("%+v came back as %+v, %v", rec, again, err)
		}
	})
}

// FuzzBody gives the decoder bodies whose checksum is right, which flipping bytes rarely does.
func FuzzBody(f *testing.F) {
	for _, rec := range someRecords() {
		f.Add(appendRecord(nil, rec)[frameLen:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) == 0 {
			return
		}
		rec, err := decodeBody(body)
		if err != nil {
			return
		}
		if rec.kind != recordSeal && rec.kind != recordFile && !validPath(rec.change.Path) && !validPath(rec.gap.Subtree) {
			t.Fatalf("path %q got through", rec.change.Path)
		}
		again, _, err := nextRecord(appendRecord(nil, rec))
		if err != nil || !reflect.DeepEqual(again.normal(), rec.normal()) {
			t.Fatalf("%+v came back as %+v, %v", rec, again, err)
		}
	})
}

// normal leaves out what the writer never writes: more text than textMax, a failure without an
// attempt.
func (r record) normal() record {
	r.change.Error = r.change.Error[:min(len(r.change.Error), textMax)]
	r.gap.Reason = r.gap.Reason[:min(len(r.gap.Reason), textMax)]
	if r.kind == recordFailed && r.change.Attempts == 0 {
		r.kind, r.change.Error = recordChange, ""
	}
	return r
}

// TestFlippedByte flips bits of every byte of a small journal: the next writer, and a cut, either give
// exactly what was written or say that something may be missing, and never something else.
func TestFlippedByte(t *testing.T) {
	t.Parallel()
	written := []Change{
		{Path: "a", Kind: Content, Since: time.Unix(1000, 0)},
		{Path: "b/c", Kind: Gone, Since: time.Unix(1001, 0)},
		{Path: "d", Kind: Attributes, Since: someTime, Attempts: 2, Error: "no"},
	}
	var records []byte
	for _, c := range written {
		records = appendChange(records, c)
	}
	for _, sealed := range []bool{true, false} {
		segment := append([]byte(segmentHeader), records...)
		if sealed {
			segment = appendSeal(segment)
		}
		for i := range segment {
			for _, bits := range []byte{0x01, 0x80, 0xff} {
				flipped := slices.Clone(segment)
				flipped[i] ^= bits
				checkFlipped(t, flipped, written, i)
			}
		}
	}
}

func checkFlipped(t *testing.T, segment []byte, written []Change, i int) {
	t.Helper()
	dir := memoryDir(t)
	if err := os.WriteFile(segmentPath(dir, 1), segment, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := setKnownUntil(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	_, lookGaps, err := Pending(dir)
	if err != nil {
		t.Fatal(err)
	}
	batch := cutAlone(t, dir)
	for _, c := range batch.Changes {
		if !slices.Contains(written, c) {
			t.Errorf("byte %d: %+v was never written", i, c)
		}
	}
	for _, gaps := range [][]Gap{lookGaps, batch.Gaps} {
		if !slices.ContainsFunc(gaps, func(g Gap) bool { return g.Since.IsZero() }) {
			t.Errorf("byte %d: went unnoticed: gaps %v", i, gaps)
		}
	}
}

// memoryDir is a directory where a sync takes no time, if the machine has one.
func memoryDir(t *testing.T) string {
	t.Helper()
	const shm = "/dev/shm"
	if unix.Access(shm, unix.W_OK) != nil {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "rsince-changes-")
	do(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// cutAlone cuts as a run does when nobody watches.
func cutAlone(t *testing.T, dir string) *Batch {
	t.Helper()
	batch, err := Cut(t.Context(), filepath.Join(dir, "no.sock"), dir, "p")
	if err != nil {
		t.Fatal(err)
	}
	return batch
}
