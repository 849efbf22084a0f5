package rsync

import (
	"cmp"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A nameMap finds the paths below the source in what rsync calls them.
type nameMap struct {
	source string
	// target is the absolute path that rsync puts before names on the target; empty if not known.
	target string
	// given are the names that a pass was given, and the directories above them; nil: it finds more.
	given map[string]bool
	// temporary are names by what the names of their temporary files begin with.
	temporary map[string][]string
	// read are the directories of the source whose entries are in temporary.
	read map[string]bool
}

func newNameMap(e *Engine, p pass) *nameMap {
	m := &nameMap{source: e.Source, temporary: map[string][]string{}, read: map[string]bool{}}
	m.target, _ = namesOnTarget(e.Target)
	if p.list == nil || p.finds {
		return m
	}
	m.given = map[string]bool{}
	for _, name := range p.list {
		m.add(name)
		for up := name; !m.given[up]; up = path.Dir(up) {
			m.given[up] = true
		}
	}
	return m
}

// paths returns the paths relative to the source that a message may speak of: all that its readings lead to, lest a
// failure be charged to the wrong one. Absolute names are below the source or the target. One on the target may be that of a
// temporary file; if it is not, and not in the source either, it is to be deleted.
func (m *nameMap) paths(msg message) []string {
	base, lookUp := m.target, m.onTarget
	if msg.ofSource() {
		base, lookUp = m.source, m.onSource
	}
	var found []string
	likeliest := ""
	for _, name := range msg.names {
		switch rel, ok := strip(name, base); {
		case ok:
			likeliest = cmp.Or(likeliest, rel)
			found = append(found, lookUp(rel)...)
		case path.IsAbs(name) && !msg.ofSource():
			found = append(found, m.search(name)...)
		}
	}
	if likeliest != "" && (len(found) == 0 || !msg.ofWriting()) {
		found = append(found, likeliest)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// search tries every end of an absolute path on the target: what the target's own path is called over there is not
// always known (host:relative).
func (m *nameMap) search(name string) []string {
	var found []string
	for rest := path.Clean(name)[1:]; rest != ""; _, rest, _ = strings.Cut(rest, "/") {
		found = append(found, m.onTarget(rest)...)
	}
	return found
}

// onSource returns rel, if it is there, or was when the pass was given it.
func (m *nameMap) onSource(rel string) []string {
	there := m.given[rel]
	if m.given == nil {
		_, err := os.Lstat(filepath.Join(m.source, rel))
		there = err == nil
	}
	if !there {
		return nil
	}
	return []string{rel}
}

// onTarget returns rel, if it is in the source, and the names that it may be the temporary file of.
func (m *nameMap) onTarget(rel string) []string {
	found := m.onSource(rel)
	dot := strings.LastIndexByte(rel, '.')
	if dot < 0 || !madeUp(rel[dot+1:]) {
		return found
	}
	m.readDir(path.Dir(rel))
	return append(found, m.temporary[rel[:dot]]...)
}

// readDir adds the entries of a directory of the source, if it is they that the pass may be about.
func (m *nameMap) readDir(dir string) {
	if m.given != nil || m.read[dir] {
		return
	}
	m.read[dir] = true
	entries, _ := os.ReadDir(filepath.Join(m.source, dir)) // of one that is gone, nothing fits
	for _, entry := range entries {
		m.add(path.Join(dir, entry.Name()))
	}
}

func (m *nameMap) add(name string) {
	start := temporary(name)
	m.temporary[start] = append(m.temporary[start], name)
}

// temporary returns what the name of the temporary file for rel begins with; a dot and what madeUp knows follow.
// This is get_tmpname of rsync 3.1 to 3.5: a name gets a dot, unless it begins with one, and loses one at its end; where
// a long one is cut among bytes that are not ASCII, all of them go that are in a row.
func temporary(rel string) string {
	const nameMax, pathMax, suffix = 255, 4096, len(".XXXXXX")
	dir, name := path.Split(rel)
	name = "." + strings.TrimPrefix(name, ".")
	if most := max(0, min(nameMax, pathMax-len(dir))-suffix-1); len(name) > most {
		cut := name[most]
		name = name[:most]
		for cut >= 0x80 && name != "" && name[len(name)-1] >= 0x80 {
			name = name[:len(name)-1]
		}
	}
	return dir + strings.TrimSuffix(name, ".")
}

// madeUp reports whether the name of a temporary file ends so: six characters of mkstemp(3), or for what is no regular
// file a number of up to six digits.
func madeUp(end string) bool {
	other := func(r rune) bool {
		return (r < '0' || r > '9') && (len(end) < 6 || (r < 'a' || r > 'z') && (r < 'A' || r > 'Z'))
	}
	return len(end) > 0 && len(end) <= 6 && strings.IndexFunc(end, other) < 0
}

// strip returns a name relative to base, if it is not already, and whether it is below.
func strip(name, base string) (string, bool) {
	switch {
	case !path.IsAbs(name):
		return path.Clean(name), name != "" && name != ".." && !strings.HasPrefix(name, "../")
	case base == "":
		return "", false
	}
	return cutDir(name, base)
}

// cutDir returns name relative to dir, "." when it is dir itself.
func cutDir(name, dir string) (string, bool) {
	name, dir = path.Clean(name), path.Clean(dir)
	if name == dir {
		return ".", true
	}
	return strings.CutPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}
