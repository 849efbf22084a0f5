package sync

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// flipped visits a file with bits of each of its bytes turned, and leaves it as it was.
func flipped(t *testing.T, file string, visit func(i int)) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		for _, bits := range []byte{0x01, 0x80, 0xff} {
			turned := slices.Clone(data)
			turned[i] ^= bits
			write(t, file, string(turned))
			visit(i)
		}
	}
	write(t, file, string(data))
}

// TestFlippedByte: what a run or a verification left is believed whole or not at all.
func TestFlippedByte(t *testing.T) {
	dir := t.TempDir()
	m, err := recall(dir)
	if err != nil {
		t.Fatal(err)
	}
	m.Entries, m.LastFull, m.Copied, m.Existing = 12, time.Now(), time.Now(), [][]byte{[]byte("precious")}
	v := &Verified{At: time.Now(), Run: "20060102T150405Z-4f2a", Missed: 3}
	names := otherNames{{[]string{"a", "d/b"}, 7}, {[]string{"c"}, 0}}
	if err := errors.Join(m.save(), v.save(dir), names.save(dir)); err != nil {
		t.Fatal(err)
	}
	flipped(t, m.file, func(i int) {
		_, err := recall(dir)
		var damaged *MemoryError
		if !errors.As(err, &damaged) || !errors.Is(err, errDamaged) && !strings.Contains(err.Error(), "another release") {
			t.Errorf("memory, byte %d: %v", i, err)
		}
	})
	flipped(t, verifiedFile(dir), func(i int) {
		if _, err := LastVerified(dir); !errors.Is(err, errDamaged) {
			t.Errorf("verification, byte %d: %v", i, err)
		}
	})
	flipped(t, namesFile(dir), func(i int) {
		if _, err := recallNames(dir); !errors.Is(err, errDamaged) {
			t.Errorf("names, byte %d: %v", i, err)
		}
	})
	again, err := recall(dir)
	verified, verifiedErr := LastVerified(dir)
	known, namesErr := recallNames(dir)
	if err := errors.Join(err, verifiedErr, namesErr); err != nil || again.Entries != 12 || verified.Missed != 3 || !reflect.DeepEqual(known, names) {
		t.Errorf("whole: %+v, %+v, %v, %v", again, verified, known, err)
	}
}
