package changes

import (
	"hash/maphash"
	"iter"
	"strings"
	"time"
)

const (
	// collapseAt is how many plain names of one directory are kept apart; beyond, the directory as
	// a whole is in doubt.
	collapseAt = 10_000
	// nodesMax is how many nodes are kept; beyond, the whole source is in doubt. Names of 255 bytes
	// for all of them still fit below the 4 GiB that a node can point into.
	nodesMax = 16_000_000
	// compactFrom is how many nodes there are when pending first looks for useless ones.
	compactFrom = 1 << 15
)

// pending is a set of paths with their kinds, merged as they come.
//
// It is a tree of names, so that a directory's path is held once, laid out without pointers: a
// node costs 20 bytes, its name its length, and its place in the index 5 to 11 bytes. Real trees
// come to 50 to 90 bytes for a path.
type pending struct {
	nodes     blocks[node]
	names     blocks[byte]
	index     []uint32 // open addressing by (parent, name); 0 is empty, else a node's number
	seed      maphash.Seed
	count     int    // nodes with a kind
	compactAt uint32 // how many nodes there may be before useless ones are looked for
}

// A node is a name in a directory. Its parent has a smaller number than itself.
type node struct {
	parent   uint32
	name     uint32 // where it starts in names
	children uint32 // plain names in doubt directly below
	since    uint32 // Unix seconds
	nameLen  uint8
	kind     Kind // 0: only an ancestor of others
	fleeting bool // as Change's
}

func newPending() *pending {
	p := &pending{seed: maphash.MakeSeed(), index: make([]uint32, 64), compactAt: compactFrom}
	p.nodes.append(node{}) // number 0: the source itself, "."
	return p
}

// record merges kind into what is known of path. It returns what that comes to: the path itself, or
// a directory that is in doubt as a whole by it. The kind returned is 0 if nothing of it is new, as
// below a directory that already is in doubt.
func (p *pending) record(path string, kind Kind, at time.Time) (string, Kind) {
	path, kind = held(path, kind)
	n, rest, covered := p.descend(path, kind)
	switch {
	case covered:
		return "", 0
	case rest != "" && p.nodes.len() >= nodesMax:
		p.become(".", Subtree, at)
		return ".", Subtree
	case rest != "" && p.nodes.len() >= p.compactAt:
		p.compact()
		return p.record(path, kind, at)
	}
	n = p.extend(n, rest)
	was := p.nodes.at(n).kind
	if !p.merge(n, kind, at) {
		return "", 0
	}
	if p.countPlain(n, was) {
		path, kind = parentOf(path), Directory
		p.merge(p.nodes.at(n).parent, kind, at)
	}
	return path, kind
}

// descend follows path as far as it is known. It returns the last node and what of path is below it,
// and whether the doubt about a directory on the way includes kind at path.
func (p *pending) descend(path string, kind Kind) (n uint32, rest string, covered bool) {
	if path == "." {
		return 0, "", false
	}
	for rest = path; rest != ""; {
		name, below, deeper := strings.Cut(rest, "/")
		dir := p.nodes.at(n).kind
		if dir == Subtree || dir == Directory && !deeper && kind.plain() {
			return n, rest, true
		}
		child, ok := p.find(n, name)
		if !ok {
			return n, rest, false
		}
		n, rest = child, below
	}
	return n, "", false
}

// extend adds the names of rest below node n and returns the last.
func (p *pending) extend(n uint32, rest string) uint32 {
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		n = p.add(n, name)
	}
	return n
}

// merge reports whether the doubt about node n is another one with kind.
func (p *pending) merge(n uint32, kind Kind, at time.Time) bool {
	nd := p.nodes.at(n)
	since := uint32(max(0, at.Unix()))
	if nd.kind == 0 {
		p.count++
		nd.since = since
	}
	nd.since = min(nd.since, since)
	was := nd.kind
	nd.kind = was.merge(kind)
	nd.fleeting = nd.fleeting || was == Content && kind == Gone
	return nd.kind != was
}

// countPlain keeps the number of plain names in the directory of node n, which was of another kind,
// and reports whether it is one of too many now.
func (p *pending) countPlain(n uint32, was Kind) (tooMany bool) {
	if n == 0 {
		return false
	}
	nd := p.nodes.at(n)
	dir := p.nodes.at(nd.parent)
	switch {
	case was == 0 && nd.kind.plain():
		dir.children++
	case was != 0 && was.plain() && !nd.kind.plain():
		dir.children--
	}
	return nd.kind.plain() && dir.children > collapseAt
}

// compact forgets what the doubt about a directory includes, if that is a good part of all. It looks
// again when there is twice as much.
func (p *pending) compact() {
	kept := 0
	for range p.uncovered() {
		kept++
	}
	if uint32(p.count-kept) > p.nodes.len()/4 {
		fresh := newPending()
		for c := range p.all() {
			c.history(func(kind Kind) { fresh.record(c.Path, kind, c.Since) })
		}
		*p = *fresh
	}
	p.compactAt = max(compactFrom, 2*p.nodes.len())
}

// become forgets everything but one change.
func (p *pending) become(path string, kind Kind, at time.Time) {
	*p = *newPending()
	p.record(path, kind, at)
}

func (p *pending) find(parent uint32, name string) (uint32, bool) {
	mask := uint32(len(p.index) - 1)
	for slot := p.hash(parent, name) & mask; p.index[slot] != 0; slot = (slot + 1) & mask {
		n := p.index[slot]
		if nd := p.nodes.at(n); nd.parent == parent && p.name(nd) == name {
			return n, true
		}
	}
	return 0, false
}

func (p *pending) add(parent uint32, name string) uint32 {
	n := p.nodes.append(node{parent: parent, name: p.names.append(stringAsBytes(name)...), nameLen: uint8(len(name))})
	if uint32(len(p.index))/4*3 <= n {
		p.index = make([]uint32, 2*len(p.index))
		for i := uint32(1); i < n; i++ {
			nd := p.nodes.at(i)
			p.place(i, nd.parent, p.name(nd))
		}
	}
	p.place(n, parent, name)
	return n
}

func (p *pending) place(n, parent uint32, name string) {
	mask := uint32(len(p.index) - 1)
	slot := p.hash(parent, name) & mask
	for p.index[slot] != 0 {
		slot = (slot + 1) & mask
	}
	p.index[slot] = n
}

func (p *pending) hash(parent uint32, name string) uint32 {
	return uint32(maphash.String(p.seed, name)) ^ parent*0x9E3779B1
}

func (p *pending) name(nd *node) string {
	return bytesAsString(p.names.slice(nd.name, int(nd.nameLen)))
}

// all gives every path in doubt that no directory's doubt includes, in no particular order.
func (p *pending) all() iter.Seq[Change] {
	return func(yield func(Change) bool) {
		for n := range p.uncovered() {
			nd := p.nodes.at(n)
			if !yield(Change{Path: p.path(n), Kind: nd.kind, Since: time.Unix(int64(nd.since), 0), Fleeting: nd.fleeting}) {
				return
			}
		}
	}
}

// uncovered gives the nodes of all.
func (p *pending) uncovered() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		below := make([]bool, p.nodes.len()) // a Subtree
		for n := range p.nodes.len() {
			nd := p.nodes.at(n)
			above := Kind(0)
			if n != 0 {
				above = p.nodes.at(nd.parent).kind
				below[n] = below[nd.parent] || above == Subtree
			}
			covered := below[n] || above == Directory && nd.kind.plain()
			if nd.kind != 0 && !covered && !yield(n) {
				return
			}
		}
	}
}

func (p *pending) path(n uint32) string {
	if n == 0 {
		return "."
	}
	size := -1
	for i := n; i != 0; i = p.nodes.at(i).parent {
		size += 1 + int(p.nodes.at(i).nameLen)
	}
	path := make([]byte, size)
	for end := size; n != 0; n = p.nodes.at(n).parent {
		name := p.name(p.nodes.at(n))
		copy(path[end-len(name):], name)
		if end -= len(name); end > 0 {
			end--
			path[end] = '/'
		}
	}
	return bytesAsString(path)
}
