package changes

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// model is what pending does, said plainly.
type model map[string]Change

func (m model) record(path string, kind Kind, at time.Time) {
	if m.covered(path, kind) {
		return
	}
	c, known := m[path]
	if !known {
		c = Change{Path: path, Since: at}
	}
	c.Fleeting = c.Fleeting || c.Kind == Content && kind == Gone
	c.Kind = c.Kind.merge(kind)
	m[path] = c
	if dir := parentOf(path); path != "." && m.plainIn(dir) > collapseAt {
		m.record(dir, Directory, at)
	}
}

func (m model) covered(path string, kind Kind) bool {
	if path == "." {
		return false
	}
	dir := parentOf(path)
	if m[dir].Kind == Directory && kind.plain() {
		return true
	}
	for ; ; dir = parentOf(dir) {
		if m[dir].Kind == Subtree || dir == "." {
			return m[dir].Kind == Subtree
		}
	}
}

func (m model) plainIn(dir string) (n int) {
	if dir != "big" { // the only one with so many
		return 0
	}
	for path, c := range m {
		if c.Kind.plain() && parentOf(path) == dir {
			n++
		}
	}
	return n
}

func (m model) all() map[string]Change {
	left := maps.Clone(map[string]Change(m))
	maps.DeleteFunc(left, func(path string, c Change) bool { return m.covered(path, c.Kind) })
	return left
}

func collected(p *pending) map[string]Change {
	all := map[string]Change{}
	for c := range p.all() {
		all[c.Path] = c
	}
	return all
}

func TestPendingAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		p, m := newPending(), model{}
		for i := range 300 {
			path, kind := randomPath(r), Kind(1+r.IntN(5))
			if r.IntN(3) > 0 && !kind.plain() {
				kind = Content // else everything is soon covered
			}
			at := time.Unix(int64(1000+i), 0)
			p.record(path, kind, at)
			m.record(path, kind, at)
			if i%50 == 0 && seed%2 > 0 {
				p.compact()
			}
		}
		// A forgotten path that comes again in a worse doubt has another Since.
		same := func(a, b Change) bool {
			return a.Kind == b.Kind && (a.Since.Equal(b.Since) && a.Fleeting == b.Fleeting || seed%2 > 0 && !(a.Kind.plain() && a.Fleeting != b.Fleeting))
		}
		if got, want := collected(p), m.all(); !maps.EqualFunc(got, want, same) {
			t.Fatalf("seed %d:\n got %v\nwant %v", seed, got, want)
		}
	}
}

func randomPath(r *rand.Rand) string {
	if r.IntN(200) == 0 {
		return "."
	}
	parts := make([]string, 1+r.IntN(4))
	for i := range parts {
		parts[i] = []string{"a", "b", "c\n", "\xff", "-x", "d e"}[r.IntN(6)]
	}
	return strings.Join(parts, "/")
}

func TestPendingCollapse(t *testing.T) {
	p, m := newPending(), model{}
	at := time.Unix(1000, 0)
	record := func(path string, kind Kind) {
		p.record(path, kind, at)
		m.record(path, kind, at)
	}
	record("big/tree", Subtree)
	record("big/deep/below", Content)
	for i := range collapseAt - 1 {
		p.record(fmt.Sprint("big/", i), Content, at)
		m[fmt.Sprint("big/", i)] = Change{Path: fmt.Sprint("big/", i), Kind: Content, Since: at}
	}
	record("big/9", Gone) // once more, and of another kind: not one more
	record("big/last", Content)
	if got := collected(p); len(got) != collapseAt+2 {
		t.Fatalf("%d paths at the limit, want %d", len(got), collapseAt+2)
	}
	path, kind := p.record("big/more", Content, at)
	if path != "big" || kind != Directory {
		t.Fatalf("beyond the limit: %q %v", path, kind)
	}
	m.record("big/more", Content, at)
	if got := collected(p); !maps.Equal(got, m.all()) || len(got) != 3 {
		t.Fatalf("after: %v", got)
	}
	if _, kind := p.record("big/again", Content, at); kind != 0 {
		t.Error("a name in a collapsed directory is news")
	}
	if _, kind := p.record("big/again/below", Content, at); kind != Content {
		t.Error("a path deeper than a collapsed directory is not")
	}
}

func TestPendingForgetsCovered(t *testing.T) {
	t.Parallel()
	p := newPending()
	for d := range 40 {
		for i := range collapseAt + 1 {
			p.record(fmt.Sprintf("d%d/%d", d, i), Content, time.Now())
		}
	}
	if n := p.nodes.len(); n > 100_000 {
		t.Errorf("%d nodes for 40 directories that are in doubt as a whole", n)
	}
	if got := collected(p); len(got) != 40 {
		t.Errorf("%d paths, want 40", len(got))
	}
}

func TestHeld(t *testing.T) {
	long := strings.Repeat("n", 256)
	deep := strings.Repeat("d/", pathMax)
	tests := []struct {
		path string
		kind Kind
		want string
		is   Kind
	}{
		{".", Attributes, ".", Attributes},
		{"a/b", Gone, "a/b", Gone},
		{"a/..b/...", Content, "a/..b/...", Content},
		{strings.Repeat("n", 255), Content, strings.Repeat("n", 255), Content},
		{long, Content, ".", Subtree},
		{"a/b/" + long, Attributes, "a/b", Subtree},
		{"a/b/" + long + "/c", Attributes, "a/b", Subtree},
		{deep + "x", Content, deep[:pathMax-1], Subtree},
		{"", Content, ".", Subtree},
		{"/a", Content, ".", Subtree},
		{"a/", Content, ".", Subtree},
		{"a//b", Content, ".", Subtree},
		{"a/../b", Content, ".", Subtree},
		{"a/./b", Content, ".", Subtree},
		{"a\x00", Content, ".", Subtree},
		{"a", 0, "a", Subtree},
		{"a", 77, "a", Subtree},
	}
	for _, tt := range tests {
		if got, is := held(tt.path, tt.kind); got != tt.want || is != tt.is {
			t.Errorf("held(%.20q, %v) = %.20q, %v; want %.20q, %v", tt.path, tt.kind, got, is, tt.want, tt.is)
		}
	}
}

// spreadPaths gives n paths of a tree of 71,169 directories with 10 files each.
func spreadPaths(n int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i := range n {
			d, f := i*7919%71169, (i+i/71169*5)%10
			if !yield(fmt.Sprintf("home/dir%03d/dir%03d/dir%03d/file-%d.txt", d/1681, d/41%41, d%41, f)) {
				return
			}
		}
	}
}

// deepPaths gives n paths, 40 to a directory, eight directories down.
func deepPaths(n int) func(func(string) bool) {
	return func(yield func(string) bool) {
		dir := ""
		for i := range n {
			if d := i / 40; i%40 == 0 {
				dir = "srv/data/projects/p" + strconv.Itoa(d/100) + "/src/vendor/module" + strconv.Itoa(d%100) + "/internal/f"
			}
			if !yield(dir + strconv.Itoa(i) + ".go") {
				return
			}
		}
	}
}

func TestPendingMemory(t *testing.T) {
	const limit = 150
	tests := []struct {
		name  string
		n     int
		paths func(int) func(func(string) bool)
	}{
		{"spread", 100_000, spreadPaths},
		{"deep", 1_000_000, deepPaths},
		{"flat", collapseAt, func(n int) func(func(string) bool) {
			return func(yield func(string) bool) {
				for i := 0; i < n && yield(fmt.Sprint("a name of some forty bytes in one directory", i)); i++ {
				}
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := heapInUse()
			p := newPending()
			for path := range tt.paths(tt.n) {
				p.record(path, Content, time.Now())
			}
			each := float64(heapInUse()-before) / float64(p.count)
			t.Logf("%d paths, %d nodes, %.1f bytes each", p.count, p.nodes.len(), each)
			if p.count < tt.n*9/10 || each > limit {
				t.Errorf("%d paths with %.1f bytes each, want %d with at most %d", p.count, each, tt.n, limit)
			}
			runtime.KeepAlive(p)
		})
	}
}

// heapInUse counts spans, so that what their rounding wastes is in it.
func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

func BenchmarkPending(b *testing.B) {
	var paths []string
	for path := range spreadPaths(100_000) {
		paths = append(paths, path)
	}
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p := newPending()
			for _, path := range paths {
				p.record(path, Content, time.Now())
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(paths)), "ns/path")
	})
	b.Run("known", func(b *testing.B) {
		p := newPending()
		i := 0
		for b.Loop() {
			p.record(paths[i%len(paths)], Content, time.Now())
			i++
		}
	})
}
