package fanotify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// An event is one notification of the kernel, as fanotify(7) lays it out. Its slices point into
// the buffer it was decoded from.
type event struct {
	mask uint64
	fsid fsid
	// dir and name are the directory and the name in it. A directory's own event has its own
	// handle and the name "."; both are empty for a file whose name the kernel does not know.
	dir  handle
	name []byte
	// newDir and newName are where a rename led to; dir and name are where it came from.
	newDir  handle
	newName []byte
	// file is the handle of what the name led to when the event happened.
	file handle
}

// A handle is a file handle in the form of a changes.Handle.
type handle []byte

// An fsid is the file system's statfs(2) f_fsid, in the bytes the kernel stores it in.
type fsid [8]byte

// Sizes of struct fanotify_event_metadata, of struct fanotify_event_info_fid up to the handle's
// bytes, and the byte offsets in them.
const (
	metadataSize = unix.FAN_EVENT_METADATA_LEN
	versionAt    = 4
	lengthAt     = 6
	maskAt       = 8

	infoFsidAt   = 4
	infoHandleAt = infoFsidAt + 8
	infoBytesAt  = infoHandleAt + 8
)

var errTruncated = errors.New("truncated event")

// decode splits the first event off buf, which is what one read(2) of the group returned.
func decode(buf []byte) (e event, rest []byte, err error) {
	if len(buf) < metadataSize {
		return event{}, nil, errTruncated
	}
	if v := buf[versionAt]; v != unix.FANOTIFY_METADATA_VERSION {
		return event{}, nil, fmt.Errorf("event format version %d, want %d", v, unix.FANOTIFY_METADATA_VERSION)
	}
	size := binary.NativeEndian.Uint32(buf)
	start := binary.NativeEndian.Uint16(buf[lengthAt:])
	if start < metadataSize || uint32(start) > size || uint64(size) > uint64(len(buf)) {
		return event{}, nil, errTruncated
	}
	e.mask = binary.NativeEndian.Uint64(buf[maskAt:])
	// The overflow event has no records: there is nothing it is about.
	for records := buf[start:size]; len(records) > 0; {
		if records, err = e.record(records); err != nil {
			return event{}, nil, err
		}
	}
	return e, buf[size:], nil
}

// record takes in the first information record of records. Types it does not know are passed over,
// as fanotify(7) asks for.
func (e *event) record(records []byte) (rest []byte, err error) {
	if len(records) < infoFsidAt {
		return nil, errTruncated
	}
	size := int(binary.NativeEndian.Uint16(records[2:]))
	if size < infoFsidAt || size > len(records) {
		return nil, errTruncated
	}
	info, rest := records[:size], records[size:]
	switch info[0] {
	case unix.FAN_EVENT_INFO_TYPE_FID:
		e.file, _, err = e.fid(info)
	case unix.FAN_EVENT_INFO_TYPE_DFID:
		e.dir, _, err = e.fid(info)
		e.name = []byte(".")
	case unix.FAN_EVENT_INFO_TYPE_DFID_NAME, unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME:
		e.dir, e.name, err = e.fid(info)
	case unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
		e.newDir, e.newName, err = e.fid(info)
	}
	return rest, err
}

// fid returns the file handle in info and what follows it up to the first NUL: the name, for the
// types of record that have one.
func (e *event) fid(info []byte) (handle, []byte, error) {
	if len(info) < infoBytesAt {
		return nil, nil, errTruncated
	}
	copy(e.fsid[:], info[infoFsidAt:])
	n := binary.NativeEndian.Uint32(info[infoHandleAt:])
	if uint64(n) > uint64(len(info)-infoBytesAt) {
		return nil, nil, errTruncated
	}
	end := infoBytesAt + int(n)
	name, _, _ := bytes.Cut(info[end:], []byte{0})
	// The handle's type stands right before its bytes.
	return info[infoHandleAt+4 : end], name, nil
}
