package changes

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

// A file that the next run relies on is a line: crc32c of the rest (8 hexadecimal digits), a blank, JSON
// and blanks up to a length.
const sumLen = 8

// errLineDamaged says that a line is not what was written.
var errLineDamaged = errors.New("it is damaged")

func encodeLine(v any, length int) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	text = fmt.Appendf(nil, " %-*s\n", max(0, length-sumLen-2), text)
	return append(fmt.Appendf(nil, "%0*x", sumLen, crc32.Checksum(text, crcTable)), text...), nil
}

func decodeLine(line []byte, v any) error {
	if len(line) < sumLen || string(line[:sumLen]) != fmt.Sprintf("%0*x", sumLen, crc32.Checksum(line[sumLen:], crcTable)) {
		return errLineDamaged
	}
	return json.Unmarshal(line[sumLen:], v)
}
