package scan

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func appendDirent(b []byte, d dirent) []byte {
	size := (direntHeader + len(d.name) + 1 + 7) / 8 * 8
	e := make([]byte, size)
	binary.NativeEndian.PutUint64(e, d.inode)
	binary.NativeEndian.PutUint16(e[16:], uint16(size))
	e[18] = d.typ
	copy(e[direntHeader:], d.name)
	return append(b, e...)
}

func TestDirents(t *testing.T) {
	want := []dirent{{1, unix.DT_REG, "a\n\xff"}, {1<<64 - 1, unix.DT_UNKNOWN, "..."}, {7, unix.DT_DIR, "d"}}
	var buf []byte
	for _, d := range append([]dirent{{2, unix.DT_DIR, "."}, {3, unix.DT_DIR, ".."}}, want...) {
		buf = appendDirent(buf, d)
	}
	if got := slices.Collect(dirents(buf)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzDirents(f *testing.F) {
	f.Add(appendDirent(appendDirent(nil, dirent{1, unix.DT_REG, "a"}), dirent{2, unix.DT_DIR, "b"}))
	f.Add(make([]byte, direntHeader))
	if dir, err := os.Open("/"); err == nil { // what a kernel writes
		buf := make([]byte, 4096)
		if n, err := unix.Getdents(int(dir.Fd()), buf); err == nil {
			f.Add(buf[:n])
		}
		dir.Close()
	}
	f.Fuzz(func(t *testing.T, buf []byte) {
		n := 0
		for d := range dirents(buf) {
			if n++; len(d.name) > len(buf) || slices.Contains([]byte(d.name), 0) {
				t.Fatalf("name %q", d.name)
			}
		}
		if n > len(buf)/direntHeader {
			t.Fatalf("%d entries in %d bytes", n, len(buf))
		}
	})
}
