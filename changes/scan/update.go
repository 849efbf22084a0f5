package scan

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"rsince/changes/durable"
)

// An Update is what a catalog is to learn. Of several words about one thing the last one holds. The
// zero value says nothing.
type Update struct{ pairs []pair }

type pair struct {
	key   key
	value uint64
	kind  valueKind
}

type valueKind uint8

const (
	version   valueKind = iota // or 0, for what is not known
	identity                   // to be joined with the number of the update
	roundOnly                  // value is the number of the update
)

// Copied says that this version of a name, which is not a directory's, was copied.
func (u *Update) Copied(path string, v Version) {
	u.pairs = append(u.pairs, pair{key: nameKey(path), value: uint64(v)})
}

// CopiedListing says that the target has the names that this version of a directory has.
func (u *Update) CopiedListing(path string, v Version) {
	u.pairs = append(u.pairs, pair{key: listingKey(path), value: uint64(v)})
}

// CopiedDirectory says that this directory was copied under a name, with all below. Of directories
// below, only what the update says holds.
func (u *Update) CopiedDirectory(path string, id Identity) {
	u.StillDirectory(path, id)
	u.Relisted(path)
}

// StillDirectory says that this directory, copied before, is under a name.
func (u *Update) StillDirectory(path string, id Identity) {
	u.pairs = append(u.pairs, pair{key: nameKey(path), value: uint64(id), kind: identity})
}

// Relisted says that other names may be in a directory than before. Of the directories in it, only what
// the update says holds.
func (u *Update) Relisted(path string) {
	u.pairs = append(u.pairs, pair{key: roundKey(path), kind: roundOnly})
}

// Forget says that it is not known what was last copied of a name; if it is a directory, of all below.
func (u *Update) Forget(path string) {
	u.pairs = append(u.pairs, pair{key: nameKey(path)}, pair{key: listingKey(path)})
}

// ForgetListing says that it is not known which names of a directory were copied.
func (u *Update) ForgetListing(path string) {
	u.pairs = append(u.pairs, pair{key: listingKey(path)})
}

// merged gives the last word on each key, sorted, with the values of update number round.
func (u *Update) merged(round uint64) []pair {
	slices.SortStableFunc(u.pairs, func(a, b pair) int { return cmp.Compare(a.key, b.key) })
	last := u.pairs[:0]
	for i, p := range u.pairs {
		if i+1 < len(u.pairs) && u.pairs[i+1].key == p.key {
			continue
		}
		switch {
		case p.kind == identity && round <= roundMax:
			p.value = directory(Identity(p.value), round)
		case p.kind == identity:
			p.value = 0
		case p.kind == roundOnly:
			p.value = round
		}
		last = append(last, p)
	}
	u.pairs = last
	return last
}

// Write makes the update all that the catalog in file knows, durably.
func (u *Update) Write(file string) error {
	known := slices.DeleteFunc(u.merged(1), func(p pair) bool { return p.value == 0 || p.kind == roundOnly })
	return writeCatalog(file, 1, appendPairs(nil, known))
}

func writeCatalog(file string, round uint64, pairs []byte) error {
	h := header{round: round, pairs: uint64(len(pairs) / pairLen)}
	h.sum = h.checksum(pairs)
	return durable.Replace(file, func(w io.Writer) error {
		if _, err := w.Write(h.encode()); err != nil {
			return err
		}
		_, err := w.Write(pairs)
		return err
	})
}

func appendPairs(b []byte, pairs []pair) []byte {
	b = slices.Grow(b, len(pairs)*pairLen)
	for _, p := range pairs {
		b = binary.LittleEndian.AppendUint64(b, uint64(p.key))
		b = binary.LittleEndian.AppendUint64(b, p.value)
	}
	return b
}

// Append adds the update to the catalog in file, durably. It costs in proportion to the update and
// to those before it, which go to their places among the sorted pairs when they have become many.
// fs.ErrNotExist if there is no catalog.
func (u *Update) Append(file string) error {
	if len(u.pairs) == 0 {
		return nil
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = u.appendTo(f)
	if err != nil {
		err = fmt.Errorf("adding to %s: %w", file, err)
	}
	return errors.Join(err, f.Close())
}

// fewPairs of updates are never too many.
const fewPairs = 1 << 16

func (u *Update) appendTo(f *os.File) error {
	var head [sortedAt]byte
	size, err := f.ReadAt(head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	h, err := decodeHeader(head[:size])
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if h.pairs > uint64(info.Size()-int64(sortedAt))/pairLen {
		return ErrDamaged
	}
	start := int64(sortedAt) + int64(h.pairs)*pairLen
	before, err := io.ReadAll(io.NewSectionReader(f, start, info.Size()-start))
	if err != nil {
		return err
	}
	n, err := eachUpdate(before, func([]byte) {})
	if err != nil {
		return err
	}
	pairs := u.merged(h.round + uint64(n) + 1)
	if all := uint64(len(before)/pairLen + len(pairs)); all > fewPairs && all > h.pairs/4 {
		return mergeInto(f.Name(), h.round+uint64(n)+1, pairs)
	}
	data := appendPairs(make([]byte, updateHeader), pairs)
	binary.LittleEndian.PutUint32(data, uint32(len(pairs)))
	binary.LittleEndian.PutUint32(data[4:], checksum(data[:4], data[updateHeader:]))
	if _, err := f.WriteAt(data, info.Size()); err != nil {
		return errors.Join(err, f.Truncate(info.Size()))
	}
	return f.Sync()
}

// mergeInto writes the catalog in file anew, with all its updates and these pairs in their places.
func mergeInto(file string, round uint64, pairs []pair) error {
	c, err := OpenCatalog(file)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		c.updated[p.key] = p.value
	}
	return writeCatalog(file, round, mergePairs(c.sorted, c.updated))
}

// mergePairs puts the updated pairs in the place of what the sorted ones say of the same keys.
func mergePairs(sorted []byte, updated map[key]uint64) []byte {
	merged := make([]byte, 0, len(sorted)+len(updated)*pairLen)
	for _, k := range slices.Sorted(maps.Keys(updated)) {
		for len(sorted) > 0 {
			next, _ := pairAt(sorted, 0)
			if next > k {
				break
			}
			if next < k {
				merged = append(merged, sorted[:pairLen]...)
			}
			sorted = sorted[pairLen:]
		}
		if value := updated[k]; value != 0 {
			merged = appendPairs(merged, []pair{{key: k, value: value}})
		}
	}
	return append(merged, sorted...)
}
