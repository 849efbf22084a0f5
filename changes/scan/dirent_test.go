package scan

import (
	"encoding/binary"
	"os"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func appendDirent(b []byte, d Dirent) []byte {
	size := (direntHeader + len(d.Name) + 1 + 7) / 8 * 8
	e := make([]byte, size)
	binary.NativeEndian.PutUint64(e, d.Inode)
	binary.NativeEndian.PutUint16(e[16:], uint16(size))
	e[18] = d.Type
	copy(e[direntHeader:], d.Name)
	return append(b, e...)
}

func TestDirents(t *testing.T) {
	want := []Dirent{{1, unix.DT_REG, []byte("a\n\xff")}, {1<<64 - 1, unix.DT_UNKNOWN, []byte("...")}, {7, unix.DT_DIR, []byte("d")}}
	var buf []byte
	for _, d := range append([]Dirent{{2, unix.DT_DIR, []byte(".")}, {3, unix.DT_DIR, []byte("..")}}, want...) {
		buf = appendDirent(buf, d)
	}
	if got := slices.Collect(Dirents(buf)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzDirents(f *testing.F) {
	f.Add(appendDirent(appendDirent(nil, Dirent{1, unix.DT_REG, []byte("a")}), Dirent{2, unix.DT_DIR, []byte("b")}))
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
		for d := range Dirents(buf) {
			if n++; len(d.Name) == 0 || slices.Contains(d.Name, 0) {
				t.Fatalf("name %q", d.Name)
			}
		}
		if n > len(buf)/direntHeader {
			t.Fatalf("%d entries in %d bytes", n, len(buf))
		}
	})
}
