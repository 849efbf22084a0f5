package sync

import (
	"errors"
	"fmt"
	"hash/crc32"

	"rsince/changes/durable"
)

// What one run leaves for the next has a last line with the crc32c of what is above it.
const sumLine = "\"crc32c %08x\"\n"

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// errDamaged says that a file is not what was written.
var errDamaged = errors.New("it is damaged")

func sumOf(text []byte) string { return fmt.Sprintf(sumLine, crc32.Checksum(text, crcTable)) }

// writeSummed replaces a file, durably.
func writeSummed(file string, text []byte) error {
	return durable.WriteFile(file, append(text, sumOf(text)...))
}

// summed gives what was written to a file; errDamaged if that is not what it holds.
func summed(data []byte) ([]byte, error) {
	at := len(data) - len(sumOf(nil))
	if at < 0 || string(data[at:]) != sumOf(data[:at]) {
		return nil, errDamaged
	}
	return data[:at], nil
}
