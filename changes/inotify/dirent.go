package inotify

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// nameOffset is where the name begins in a record of getdents64(2), after d_ino (8 bytes), d_off (8),
// d_reclen (2) and d_type (1).
const nameOffset = 19

// appendSubdirectories appends to names those of the directories, and of what might be one because
// the file system does not say, in what getdents64 wrote to b.
func appendSubdirectories(names []string, b []byte) []string {
	for len(b) > nameOffset {
		size := int(binary.NativeEndian.Uint16(b[16:]))
		if size <= nameOffset || size > len(b) {
			return names
		}
		kind, name := b[18], b[nameOffset:size]
		b = b[size:]
		if kind != unix.DT_DIR && kind != unix.DT_UNKNOWN {
			continue
		}
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		if s := string(name); s != "" && s != "." && s != ".." {
			names = append(names, s)
		}
	}
	return names
}
