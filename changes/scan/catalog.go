package scan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"os"
	"sort"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// A Catalog tells of a tree what was last copied of it: of each name which version, of each directory
// which names and which directory. A tree held against its catalog shows what was changed since,
// whatever clocks say about order.
//
// It has a hash in the place of each path (64 bits): 16 bytes for a name, 32 for a directory. Two
// paths with one hash look changed for ever; a change is overlooked where two versions of one path
// have one hash, or two directories the same 40 bits of one.
//
// A directory that is gone, or that another one has taken the place of, leaves behind what was known of
// those below it, under paths that nobody can list. So which directory was copied under a name is only
// believed if that was noted no earlier than the directory above was found to hold others.
type Catalog struct {
	sorted  []byte         // pairs, by key
	updated map[key]uint64 // since
}

// A key stands for something about a path; no path ends with a slash.
type key uint64

// nameKey is that of the version of a name or, if it is a directory's, of the upper bits of its identity
// and, in the lower ones, the number of the update that noted it.
func nameKey(path string) key { return key(xxhash.Sum64String(path)) }

// listingKey is that of the version of a directory whose names were copied.
func listingKey(path string) key { return keyOf(path, "/") }

// roundKey is that of the number of the update that noted last that a directory holds others.
func roundKey(path string) key { return keyOf(path, "//") }

func keyOf(path, suffix string) key {
	var d xxhash.Digest
	d.Reset()
	d.WriteString(path)
	d.WriteString(suffix)
	return key(d.Sum64())
}

const roundMax = 1<<24 - 1

func directory(id Identity, round uint64) uint64 { return uint64(id)&^roundMax | round }

// The file of a catalog is
//
//	catalogHeader
//	number of updates that the sorted pairs come from (8 bytes)
//	number of sorted pairs (8) · crc32c of both numbers and the pairs (4) · the pairs, by key
//	for each update since: number of pairs (4) · crc32c of it and them (4) · the pairs
//
// all little-endian; a pair is a key and a value, 8 bytes each, and the value 0 says that nothing is
// known. An update that is incomplete makes the file a damaged one: whether a crash left it so, or the
// disk lost one that was relied on, does not show.
const (
	catalogHeader = "rsince catalog 1\n"
	sortedAt      = len(catalogHeader) + 20
	updateHeader  = 8
	pairLen       = 16
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// ErrDamaged says that a file does not hold the catalog that was written.
var ErrDamaged = errors.New("the catalog is damaged")

// OpenCatalog reads the catalog in a file; fs.ErrNotExist if there is none.
func OpenCatalog(file string) (*Catalog, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c, err := decodeCatalog(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return c, nil
}

func decodeCatalog(data []byte) (*Catalog, error) {
	h, err := decodeHeader(data)
	if err != nil {
		return nil, err
	}
	if h.pairs > uint64(len(data)-sortedAt)/pairLen {
		return nil, ErrDamaged
	}
	pairs, updates := data[sortedAt:sortedAt+int(h.pairs)*pairLen], data[sortedAt+int(h.pairs)*pairLen:]
	if h.checksum(pairs) != h.sum {
		return nil, ErrDamaged
	}
	c := &Catalog{sorted: pairs, updated: map[key]uint64{}}
	_, err = eachUpdate(updates, func(pairs []byte) {
		for i := range len(pairs) / pairLen {
			k, value := pairAt(pairs, i)
			c.updated[k] = value
		}
	})
	return c, err
}

type header struct {
	round uint64 // number of updates that the sorted pairs come from
	pairs uint64
	sum   uint32
}

func decodeHeader(data []byte) (header, error) {
	if len(data) < sortedAt || string(data[:len(catalogHeader)]) != catalogHeader {
		return header{}, ErrDamaged
	}
	d := data[len(catalogHeader):]
	return header{binary.LittleEndian.Uint64(d), binary.LittleEndian.Uint64(d[8:]), binary.LittleEndian.Uint32(d[16:])}, nil
}

func (h header) encode() []byte {
	return binary.LittleEndian.AppendUint32(append([]byte(catalogHeader), h.numbers()...), h.sum)
}

func (h header) numbers() []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, h.round), h.pairs)
}

func (h header) checksum(pairs []byte) uint32 { return checksum(h.numbers(), pairs) }

func checksum(numbers, pairs []byte) uint32 {
	return crc32.Update(crc32.Checksum(numbers, crcTable), crcTable, pairs)
}

// eachUpdate visits the pairs of each update and returns how many there are.
func eachUpdate(data []byte, visit func(pairs []byte)) (n int, err error) {
	for ; len(data) >= updateHeader; n++ {
		number, sum := data[:4], binary.LittleEndian.Uint32(data[4:])
		count := binary.LittleEndian.Uint32(number)
		data = data[updateHeader:]
		if uint64(count) > uint64(len(data))/pairLen || checksum(number, data[:int(count)*pairLen]) != sum {
			return n, ErrDamaged
		}
		visit(data[:int(count)*pairLen])
		data = data[int(count)*pairLen:]
	}
	if len(data) > 0 {
		return n, ErrDamaged
	}
	return n, nil
}

func pairAt(pairs []byte, i int) (key, uint64) {
	p := pairs[i*pairLen:]
	return key(binary.LittleEndian.Uint64(p)), binary.LittleEndian.Uint64(p[8:])
}

// Has reports whether this version of a name, which is not a directory's, is the one last copied.
func (c *Catalog) Has(path string, v Version) bool { return c.find(nameKey(path)) == uint64(v) }

// HasListing reports whether the names in a directory of this version are those that were last copied.
func (c *Catalog) HasListing(path string, v Version) bool {
	return c.find(listingKey(path)) == uint64(v)
}

// HasDirectory reports whether the directory that was last copied under a name is this one, provided
// that the directory above is as well.
func (c *Catalog) HasDirectory(path string, id Identity) bool {
	known := c.find(nameKey(path))
	if known == 0 || id == 0 || known != directory(id, known&roundMax) {
		return false
	}
	if path == "." {
		return true
	}
	above := "."
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		above = path[:i]
	}
	return known&roundMax >= c.find(roundKey(above))
}

// find returns 0 for a key that is not there.
func (c *Catalog) find(k key) uint64 {
	if value, ok := c.updated[k]; ok {
		return value
	}
	keyAt := func(i int) key { k, _ := pairAt(c.sorted, i); return k }
	// Keys are spread evenly: one lies within a few √n of where its size says.
	n := len(c.sorted) / pairLen
	low, high := 0, n
	guess, _ := bits.Mul64(uint64(k), uint64(n))
	around := 4 * int(math.Sqrt(float64(n)))
	if i := int(guess) - around; i > 0 && keyAt(i) <= k {
		low = i
	}
	if i := int(guess) + around; i < n && keyAt(i) > k {
		high = i
	}
	i := low + sort.Search(high-low, func(i int) bool { return keyAt(low+i) >= k })
	if i == n || keyAt(i) != k {
		return 0
	}
	_, value := pairAt(c.sorted, i)
	return value
}
