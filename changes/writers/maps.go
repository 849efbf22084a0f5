package writers

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// A mapping is a stretch of memory that shows a file.
type mapping struct {
	start, end uint64
	dev, ino   uint64 // dev is that of the superblock (fs/proc/task_mmu.c)
}

// String is the mapping's name in /proc/PID/map_files, without the leading zeros of maps.
func (m mapping) String() string { return fmt.Sprintf("%x-%x", m.start, m.end) }

// sharedMappings returns the shared mappings of files that r, /proc/PID/maps, lists.
func sharedMappings(r io.Reader) (all []mapping, err error) {
	lines := bufio.NewReaderSize(r, 16<<10)
	for {
		line, more, err := lines.ReadLine()
		if m, ok := parseMapping(line); ok {
			all = append(all, m)
		}
		for more && err == nil { // a name may be longer than any buffer
			_, more, err = lines.ReadLine()
		}
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// parseMapping decodes a line of proc_pid_maps(5) that is a shared mapping of a file:
//
//	7f5cc1400000-7f5cc1500000 rw-s 00000000 fe:00 173521                     /srv/db
//
// The name is passed over: a newline in it is escaped, but a backslash is not.
func parseMapping(line []byte) (m mapping, ok bool) {
	_, perms, _ := bytes.Cut(line, []byte(" "))
	if len(perms) < 4 || perms[3] != 's' {
		return m, false
	}
	var offset uint64
	var major, minor uint32
	_, err := fmt.Sscanf(string(line), "%x-%x %s %x %x:%x %d", &m.start, &m.end, new(string), &offset, &major, &minor, &m.ino)
	m.dev = unix.Mkdev(major, minor)
	return m, err == nil && m.ino != 0
}
