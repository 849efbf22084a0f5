package scan

import (
	"bytes"
	"encoding/binary"
	"iter"
)

// direntHeader is the length of struct linux_dirent64 (getdents64(2)) before the name: inode (8
// bytes), offset (8), length of the record (2), type (1).
const direntHeader = 19

// A Dirent is an entry of a directory.
type Dirent struct {
	Inode uint64
	Type  uint8  // unix.DT_REG, unix.DT_DIR, …; unix.DT_UNKNOWN where the file system does not say
	Name  []byte // a part of what was decoded
}

// Dirents decodes what getdents64 wrote and gives each entry but "." and "..".
func Dirents(buf []byte) iter.Seq[Dirent] {
	return func(yield func(Dirent) bool) {
		for len(buf) >= direntHeader {
			size := int(binary.NativeEndian.Uint16(buf[16:]))
			if size < direntHeader || size > len(buf) {
				return
			}
			name, _, _ := bytes.Cut(buf[direntHeader:size], []byte{0})
			d := Dirent{Inode: binary.NativeEndian.Uint64(buf), Type: buf[18], Name: name}
			buf = buf[size:]
			if s := string(name); s != "" && s != "." && s != ".." && !yield(d) {
				return
			}
		}
	}
}
