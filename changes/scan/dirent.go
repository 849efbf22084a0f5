package scan

import (
	"bytes"
	"encoding/binary"
	"iter"
)

// direntHeader is the length of struct linux_dirent64 (getdents64(2)) before the name: inode (8
// bytes), offset (8), length of the record (2), type (1).
const direntHeader = 19

type dirent struct {
	inode uint64
	typ   uint8
	name  string
}

// dirents decodes what getdents64 wrote and gives each entry but "." and "..".
func dirents(buf []byte) iter.Seq[dirent] {
	return func(yield func(dirent) bool) {
		for len(buf) >= direntHeader {
			size := int(binary.NativeEndian.Uint16(buf[16:]))
			if size < direntHeader || size > len(buf) {
				return
			}
			name, _, _ := bytes.Cut(buf[direntHeader:size], []byte{0})
			d := dirent{inode: binary.NativeEndian.Uint64(buf), typ: buf[18], name: string(name)}
			buf = buf[size:]
			if d.name != "." && d.name != ".." && !yield(d) {
				return
			}
		}
	}
}
