package rsync

import (
	"os"
	"path"
	"path/filepath"
	"strings"
)

// A nameMap finds the path below the source in what rsync calls it.
type nameMap struct {
	source string
	// target is the absolute path that rsync puts before names on the target; empty if not known.
	target string
}

// rel returns the path relative to the source that one of the candidates stands for. Absolute names on
// the sender's side are below the source, on the other side below the target, and there they may
// be those of temporary files.
func (m nameMap) rel(sender bool, candidates []string) (string, bool) {
	var fallback string
	for _, name := range candidates {
		rel, ok := m.strip(sender, name)
		if !ok {
			continue
		}
		if m.exists(rel) {
			return rel, true
		}
		if real, ok := m.untemporary(rel); !sender && ok {
			return real, true
		}
		if fallback == "" {
			fallback = rel
		}
	}
	return fallback, fallback != ""
}

func (m nameMap) strip(sender bool, name string) (string, bool) {
	if !strings.HasPrefix(name, "/") {
		return path.Clean(name), name != "" && name != ".." && !strings.HasPrefix(name, "../")
	}
	base := m.target
	if sender {
		base = m.source
	}
	if base != "" {
		if rel, ok := cutDir(name, base); ok {
			return rel, true
		}
	}
	if sender {
		return "", false
	}
	return m.search(name)
}

// search finds the longest end of an absolute path on the target that exists below the source: what the
// target's own path is called over there is not always known (host:relative, a daemon's module).
func (m nameMap) search(name string) (string, bool) {
	for rest := strings.TrimPrefix(name, "/"); rest != ""; {
		if m.exists(rest) {
			return rest, true
		}
		if real, ok := m.untemporary(rest); ok {
			return real, true
		}
		_, after, ok := strings.Cut(rest, "/")
		if !ok {
			break
		}
		rest = after
	}
	return "", false
}

// untemporary returns the name of the file that is written as rel, whose last part is
// .name.XXXXXX. rsync cuts long names and adds no second dot before a name that begins with one.
func (m nameMap) untemporary(rel string) (string, bool) {
	dir, name := split(rel)
	const suffix = len(".XXXXXX")
	if len(name) < 1+suffix || name[0] != '.' || name[len(name)-suffix] != '.' {
		return "", false
	}
	stem := name[1 : len(name)-suffix]
	for _, name := range [...]string{stem, "." + stem} {
		if whole := path.Join(dir, name); m.exists(whole) {
			return whole, true
		}
	}
	entries, err := os.ReadDir(filepath.Join(m.source, dir))
	if err != nil {
		return "", false
	}
	for _, entry := range entries {
		if name := entry.Name(); len(name) > 200 && strings.HasPrefix(strings.TrimPrefix(name, "."), stem) {
			return path.Join(dir, name), true
		}
	}
	return "", false
}

func (m nameMap) exists(rel string) bool {
	_, err := os.Lstat(filepath.Join(m.source, rel))
	return err == nil
}

// cutDir returns name relative to dir, "." when it is dir itself.
func cutDir(name, dir string) (string, bool) {
	name, dir = path.Clean(name), path.Clean(dir)
	if name == dir {
		return ".", true
	}
	return strings.CutPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}
