package changes

import "unsafe"

// blockLen is how many elements a block holds. The last block grows by doubling up to it, so that a
// small set stays small; a full one is never copied again.
const blockLen = 1 << 14

// blocks is a list that grows without copying what it holds.
type blocks[T any] struct {
	full [][]T
	n    uint32
}

func (b *blocks[T]) len() uint32 { return b.n }

func (b *blocks[T]) at(i uint32) *T { return &b.full[i/blockLen][i%blockLen] }

// append adds vs side by side and returns where they start. They must fit in a block; what is left
// of the current block is passed over if they do not fit there.
func (b *blocks[T]) append(vs ...T) uint32 {
	if room := blockLen - int(b.n%blockLen); len(vs) > room {
		b.n += uint32(room)
	}
	block := int(b.n / blockLen)
	if block == len(b.full) {
		b.full = append(b.full, nil)
	}
	start := b.n
	b.full[block] = append(b.full[block][:start%blockLen], vs...)
	b.n += uint32(len(vs))
	return start
}

// slice gives n elements that were added together at start.
func (b *blocks[T]) slice(start uint32, n int) []T {
	if n == 0 {
		return nil
	}
	at := start % blockLen
	return b.full[start/blockLen][at : int(at)+n]
}

// bytesAsString views bytes that are never changed again as a string.
func bytesAsString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// stringAsBytes views a string as bytes, which must not be changed.
func stringAsBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
