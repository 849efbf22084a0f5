package scan

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// model is a catalog that knows paths, and forgets at once what a directory leaves behind.
type model struct {
	round       int
	names       map[string]Version // a listing's with a slash behind
	directories map[string]copied
	past        map[string][]Identity
}

type copied struct {
	id    Identity
	round int
}

func (m *model) copy(dir string, id Identity) {
	m.leave(dir)
	m.directories[dir] = copied{id, m.round}
	m.past[dir] = append(m.past[dir], id)
}

// relist notes anew some of the directories in one, and forgets the others.
func (m *model) relist(u *Update, dir string, r *rand.Rand) {
	u.Relisted(dir)
	for path, c := range m.directories {
		if filepath.Dir(path) != dir || path == "." || c.round == m.round {
			continue
		}
		if r.IntN(2) == 0 {
			delete(m.directories, path)
			continue
		}
		m.directories[path] = copied{c.id, m.round}
		u.StillDirectory(path, c.id)
	}
}

// leave forgets what earlier updates said of the directories below one.
func (m *model) leave(dir string) {
	for path, c := range m.directories {
		if strings.HasPrefix(path, dir+"/") && c.round < m.round {
			delete(m.directories, path)
		}
	}
}

func TestCatalogAgainstModel(t *testing.T) {
	file := filepath.Join(t.TempDir(), "catalog")
	r := rand.New(rand.NewPCG(1, 2))
	paths := []string{"."}
	for _, a := range "abcd" {
		for _, b := range "abcd" {
			paths = append(paths, string(a)+"/"+string(b), string(a)+"/"+string(b)+"/x")
		}
		paths = append(paths, string(a))
	}
	m := &model{names: map[string]Version{}, directories: map[string]copied{}, past: map[string][]Identity{}}
	u := &Update{}
	for _, path := range paths {
		m.copy(path, Identity(r.Uint64()))
		u.CopiedDirectory(path, m.directories[path].id)
	}
	do(t, u.Write(file))
	for m.round = 1; m.round < 500; m.round++ {
		u = &Update{}
		for range 1 + r.IntN(4) {
			m.change(u, paths[1+r.IntN(len(paths)-1)], r)
		}
		do(t, u.Append(file))
		c, err := OpenCatalog(file)
		do(t, err)
		for _, path := range paths {
			m.check(t, c, path)
		}
	}
}

// change tells the model and an update the same.
func (m *model) change(u *Update, path string, r *rand.Rand) {
	switch r.IntN(7) {
	case 5:
		m.relist(u, path, r)
	case 6:
		m.relist(u, ".", r)
	case 0: // a file takes the place of what was there
		m.names[path] = Version(1 + r.Uint64N(1<<60))
		u.Copied(path, m.names[path])
		delete(m.directories, path)
	case 1:
		u.Forget(path)
		delete(m.names, path)
		delete(m.names, path+"/")
		delete(m.directories, path)
	case 2:
		m.names[path+"/"] = Version(1 + r.Uint64N(1<<60))
		u.CopiedListing(path, m.names[path+"/"])
	case 3: // one that was there before comes back
		if past := m.past[path]; len(past) > 0 {
			m.copyTo(u, path, past[r.IntN(len(past))])
		}
	default:
		m.copyTo(u, path, Identity(r.Uint64()))
	}
}

func (m *model) copyTo(u *Update, path string, id Identity) {
	m.copy(path, id)
	delete(m.names, path)
	u.CopiedDirectory(path, id)
}

// check holds the catalog against the model as a walk does, which believes nothing below a directory
// that is not known.
func (m *model) check(t *testing.T, c *Catalog, path string) {
	t.Helper()
	if v, known := m.names[path]; known && !c.Has(path, v) || c.Has(path, m.names[path]+1) {
		t.Fatalf("%s: version %x", path, v)
	}
	if v, known := m.names[path+"/"]; known != c.HasListing(path, max(v, 1)) {
		t.Fatalf("%s: listing %x", path, v)
	}
	for at := path; strings.Contains(at, "/"); {
		at = at[:strings.LastIndexByte(at, '/')]
		if _, known := m.directories[at]; !known {
			return
		}
	}
	now, known := m.directories[path]
	if known && !c.HasDirectory(path, now.id) {
		t.Fatalf("%s: directory %x is not known", path, now.id)
	}
	for _, id := range m.past[path] {
		if c.HasDirectory(path, id) && (!known || id != now.id) {
			t.Fatalf("%s: directory %x is still known", path, id)
		}
	}
}

// TestCatalogMerges has more updates than are kept apart.
func TestCatalogMerges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "catalog")
	if err := (&Update{}).Append(file); err != nil {
		t.Error("saying nothing", err)
	}
	one := &Update{}
	one.Copied("a", 1)
	if err := one.Append(file); !errors.Is(err, fs.ErrNotExist) {
		t.Error("without a catalog:", err)
	}
	do(t, one.Write(file))
	const n = fewPairs / 2
	for round := range 5 {
		u := &Update{}
		for i := range n {
			u.Copied(fmt.Sprint(i), Version(i+1+round))
		}
		u.Forget(fmt.Sprint(round))
		do(t, u.Append(file))
	}
	c, err := OpenCatalog(file)
	do(t, err)
	if len(c.sorted) == pairLen || len(c.updated) > fewPairs {
		t.Errorf("%d pairs and %d updated ones", len(c.sorted)/pairLen, len(c.updated))
	}
	for i := range n {
		if c.Has(fmt.Sprint(i), Version(i+5)) != (i != 4) || c.Has(fmt.Sprint(i), Version(i+4)) {
			t.Fatalf("%d is wrong", i)
		}
	}
	if !c.Has("a", 1) {
		t.Error("what was not updated is forgotten")
	}
}

// TestCatalogDamaged cuts the file anywhere and turns every bit: only where an update ends is what is
// left a catalog, an earlier one.
func TestCatalogDamaged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "catalog")
	u := &Update{}
	u.Copied("a", 10)
	u.CopiedDirectory("d", 20)
	do(t, u.Write(file))
	whole := []int{len(read(t, file))}
	for i := range 3 {
		u := &Update{}
		u.Copied("a", Version(11+i))
		do(t, u.Append(file))
		whole = append(whole, len(read(t, file)))
	}
	data := read(t, file)
	for size := range data {
		c, err := decodeCatalog(data[:size])
		updates := slices.Index(whole, size)
		if (err == nil) != (updates >= 0) || err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if err == nil && !c.Has("a", Version(10+updates)) {
			t.Fatalf("%d bytes: another version of a", size)
		}
		do(t, os.WriteFile(file, data[:size], 0o600))
		next := &Update{}
		next.Copied("b", 1)
		if err := next.Append(file); updates < 0 && !errors.Is(err, ErrDamaged) || updates >= 0 && err != nil {
			t.Fatalf("%d bytes: adding to it: %v", size, err)
		}
	}
	for i := range 8 * len(data) {
		data[i/8] ^= 1 << (i % 8)
		if _, err := decodeCatalog(data); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d is turned: %v", i, err)
		}
		data[i/8] ^= 1 << (i % 8)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	do(t, err)
	return data
}

func FuzzCatalog(f *testing.F) {
	file := filepath.Join(f.TempDir(), "catalog")
	u := &Update{}
	u.CopiedDirectory(".", 7)
	u.CopiedDirectory("d", 8)
	u.Copied("d/f", 9)
	if err := errors.Join(u.Write(file), u.Append(file)); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:sortedAt])
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := decodeCatalog(data); err == nil {
			c.Has("d/f", 9)
			c.HasDirectory("d", 8)
		}
	})
}

func BenchmarkCatalog(b *testing.B) {
	u := &Update{}
	for i := range 1 << 20 {
		u.Copied(fmt.Sprint(i), Version(i+1))
	}
	file := filepath.Join(b.TempDir(), "catalog")
	if err := u.Write(file); err != nil {
		b.Fatal(err)
	}
	c, err := OpenCatalog(file)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if k := i % (1 << 20); !c.Has(fmt.Sprint(k), Version(k+1)) {
			b.Fatal(k)
		}
	}
}
