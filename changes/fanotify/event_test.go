package fanotify

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// A testRecord is an information record as the kernel would write it.
type testRecord struct {
	kind   byte
	handle string
	name   string
}

// encode lays out an event as fanotify(7) says.
func encode(mask uint64, records ...testRecord) []byte {
	var info []byte
	for _, r := range records {
		body := append([]byte("FSID5678"), binary.NativeEndian.AppendUint32(nil, uint32(len(r.handle)-4))...)
		body = append(body, r.handle...)
		if r.name != "" {
			body = append(append(body, r.name...), 0)
		}
		for len(body)%4 != 0 {
			body = append(body, 0)
		}
		info = append(info, r.kind, 0)
		info = binary.NativeEndian.AppendUint16(info, uint16(4+len(body)))
		info = append(info, body...)
	}
	b := binary.NativeEndian.AppendUint32(nil, uint32(metadataSize+len(info)))
	b = append(b, unix.FANOTIFY_METADATA_VERSION, 0)
	b = binary.NativeEndian.AppendUint16(b, metadataSize)
	b = binary.NativeEndian.AppendUint64(b, mask)
	b = append(b, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0) // FAN_NOFD, a process
	return append(b, info...)
}

func TestDecode(t *testing.T) {
	const dir, dir2, file = "\x01\x00\x00\x00dir-1", "\x02\x00\x00\x00dir-two", "\x01\x00\x00\x00file"
	for _, test := range []struct {
		name string
		buf  []byte
		want event
	}{
		{"overflow", encode(unix.FAN_Q_OVERFLOW), event{}},
		{"no name", encode(unix.FAN_ATTRIB, testRecord{unix.FAN_EVENT_INFO_TYPE_FID, file, ""}), event{file: handle(file)}},
		{"directory", encode(unix.FAN_ATTRIB, testRecord{unix.FAN_EVENT_INFO_TYPE_DFID, dir, ""}), event{dir: handle(dir), name: []byte(".")}},
		{"name", encode(unix.FAN_MODIFY,
			testRecord{unix.FAN_EVENT_INFO_TYPE_DFID_NAME, dir, "a\n\xff"},
			testRecord{unix.FAN_EVENT_INFO_TYPE_FID, file, ""},
		), event{dir: handle(dir), name: []byte("a\n\xff"), file: handle(file)}},
		{"rename", encode(unix.FAN_RENAME,
			testRecord{unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, dir, "old"},
			testRecord{unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, dir2, "new"},
			testRecord{unix.FAN_EVENT_INFO_TYPE_FID, file, ""},
		), event{dir: handle(dir), name: []byte("old"), newDir: handle(dir2), newName: []byte("new"), file: handle(file)}},
		{"unknown record", encode(unix.FAN_CREATE, testRecord{99, dir, "x"}, testRecord{unix.FAN_EVENT_INFO_TYPE_DFID_NAME, dir, "a"}),
			event{dir: handle(dir), name: []byte("a")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, rest, err := decode(append(test.buf, "rest"...))
			if err != nil || string(rest) != "rest" {
				t.Fatalf("rest %q, error %v", rest, err)
			}
			if !bytes.Equal(e.dir, test.want.dir) || !bytes.Equal(e.name, test.want.name) || !bytes.Equal(e.newDir, test.want.newDir) ||
				!bytes.Equal(e.newName, test.want.newName) || !bytes.Equal(e.file, test.want.file) {
				t.Errorf("got %v, want %v", e, test.want)
			}
			for cut := range test.buf {
				if _, _, err := decode(test.buf[:cut]); err == nil {
					t.Errorf("no error for the first %d of %d bytes", cut, len(test.buf))
				}
			}
		})
	}
	wrong := encode(unix.FAN_CREATE)
	wrong[versionAt]++
	if _, _, err := decode(wrong); err == nil {
		t.Error("no error for another version")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(unix.FAN_Q_OVERFLOW))
	f.Add(encode(unix.FAN_RENAME,
		testRecord{unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, "typehandle", "old"},
		testRecord{unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, "type", "new"},
		testRecord{unix.FAN_EVENT_INFO_TYPE_FID, "typefile", ""}))
	f.Fuzz(func(t *testing.T, buf []byte) {
		for len(buf) > 0 {
			e, rest, err := decode(buf)
			if err != nil {
				return
			}
			if len(rest) >= len(buf) {
				t.Fatal("nothing was taken")
			}
			for _, h := range []handle{e.dir, e.newDir, e.file} {
				if h != nil && len(h) < 4 {
					t.Fatalf("handle %q without a type", h)
				}
			}
			if bytes.IndexByte(e.name, 0) >= 0 || bytes.IndexByte(e.newName, 0) >= 0 {
				t.Fatal("a name with a NUL")
			}
			buf = rest
		}
	})
}
