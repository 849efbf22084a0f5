package logs

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLineRoundTrip(t *testing.T) {
	at := time.Date(2026, 11, 21, 2, 59, 59, 123456789, time.UTC)
	for _, rec := range []record{
		{Run: Run{ID: "20261121T025959Z-4f2a"}},
		{
			Run: Run{
				ID: "20261121T025959Z-4f2a", Profile: `a"b` + "\n<ü>", State: Partial, Mode: "gap", Engine: "rsync", Backend: "inotify",
				Snapshot: "vg/snap", Started: at, Ended: at.Add(time.Hour), Listed: 1, Created: 2, Updated: 3, Deleted: 4,
				Moved: 5, Bytes: 1 << 40, Errors: 6, PendingAfter: -1, Message: `,"crc":"00000000"}`,
			},
			Owner: Owner{PID: 1, Start: 1 << 60, Boot: "x"}, Indexed: at,
		},
	} {
		line, err := encodeLine(rec)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(line, []byte("\n")) != 1 {
			t.Errorf("%q is not one line", line)
		}
		got, err := decodeLine(bytes.TrimSuffix(line, []byte("\n")))
		if !reflect.DeepEqual(got, rec) || err != nil {
			t.Errorf("got %+v, %v; want %+v", got, err, rec)
		}
	}
}

func TestDecodeLineNoticesEveryFlippedBit(t *testing.T) {
	line, err := encodeLine(record{Run: Run{ID: "20261121T025959Z-4f2a", Message: "m"}})
	if err != nil {
		t.Fatal(err)
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	for i := range len(line) * 8 {
		flipped := slices.Clone(line)
		flipped[i/8] ^= 1 << (i % 8)
		if _, err := decodeLine(flipped); !errors.Is(err, ErrDamaged) {
			t.Errorf("bit %d flipped: %v", i, err)
		}
	}
	for i := range line {
		if _, err := decodeLine(line[:i]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

func FuzzDecodeLine(f *testing.F) {
	f.Add([]byte(`{"id":"20261121T025959Z-4f2a","started":"2026-11-21T02:59:59Z"`))
	f.Add([]byte(`{"id":"../../../../../../../etc"`))
	f.Fuzz(func(t *testing.T, body []byte) {
		// The checksum is made right, else nothing would come past it.
		line := slices.Concat(body, []byte(`,"crc":"`), []byte(hexSum(body)), []byte(`"}`))
		rec, err := decodeLine(line)
		if err != nil {
			return
		}
		if _, ok := parseID(rec.ID); !ok || strings.ContainsAny(rec.ID, "/.") {
			t.Errorf("took %q for an id", rec.ID)
		}
	})
}

func hexSum(b []byte) string {
	const digits = "0123456789abcdef"
	sum := checksum(b)
	var text [8]byte
	for i := range text {
		text[i] = digits[sum>>(28-4*i)&15]
	}
	return string(text[:])
}

func FuzzReadBackwards(f *testing.F) {
	f.Add([]byte("a\nbb\n\nccc"), uint16(3))
	f.Add([]byte("\n\n"), uint16(60000))
	f.Fuzz(func(t *testing.T, text []byte, stretch uint16) {
		// A long line in the middle, so that blocks end within lines.
		i := len(text) / 2
		text = slices.Concat(text[:i], bytes.Repeat([]byte("x"), int(stretch)), text[i:])
		want := bytes.Split(text, []byte("\n"))
		lines := readBackwards(bytes.NewReader(text), int64(len(text)))
		for len(want) > 0 {
			line, offset, err := lines.next()
			last := want[len(want)-1]
			if err != nil && len(last) <= maxLine || err == nil && !bytes.Equal(line, last) {
				t.Fatalf("got %.40q, %v; want %.40q", line, err, last)
			}
			if !bytes.HasPrefix(text[offset:], last) {
				t.Fatalf("%.40q does not begin at %d", last, offset)
			}
			want = want[:len(want)-1]
		}
		if _, _, err := lines.next(); err != io.EOF {
			t.Fatalf("after the first line: %v; want EOF", err)
		}
	})
}

func TestReadBackwardsLongLines(t *testing.T) {
	long := strings.Repeat("x", 5*maxLine)
	for _, text := range []string{"a\n" + long + "\nb\n", long + "\nb\n", "a\n" + long} {
		lines := readBackwards(strings.NewReader(text), int64(len(text)))
		damaged := 0
		for {
			line, _, err := lines.next()
			if err == io.EOF {
				break
			}
			if errors.Is(err, ErrDamaged) {
				damaged++
			} else if err != nil || len(line) > 1 {
				t.Errorf("%.10q…: got %.10q, %v", text, line, err)
			}
		}
		if damaged != 1 {
			t.Errorf("%.10q…: %d damaged lines; want one", text, damaged)
		}
	}
}

func TestOneLine(t *testing.T) {
	long := oneLine(strings.Repeat("ü", 5000))
	if len(long) > maxMessage || !strings.HasSuffix(long, "ü…") {
		t.Errorf("cut to %d bytes, ending in %q", len(long), long[len(long)-6:])
	}
	if got := oneLine("a\r\n\nb\n"); got != "a b" {
		t.Errorf("got %q; want %q", got, "a b")
	}
}
