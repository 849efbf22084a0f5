package changes

import "strings"

const (
	nameMax = 255     // what every kernel file system has (NAME_MAX); a node holds no more
	pathMax = 1 << 15 // nested directories can make a path as long as they like; a record holds no more
)

// held gives the change that a journal keeps for kind at path. What it has no room for puts the
// directory above in doubt: some FUSE file systems have longer names, and a path below many
// directories can be longer than any system call takes. What is no path or no kind at all puts
// everything in doubt.
func held(path string, kind Kind) (string, Kind) {
	if kind < Attributes || kind > Subtree {
		kind = Subtree
	}
	if path == "." {
		return path, kind
	}
	if strings.IndexByte(path, 0) >= 0 {
		return ".", Subtree
	}
	for start := 0; start <= len(path); {
		name, _, _ := strings.Cut(path[start:], "/")
		end := start + len(name)
		switch {
		case name == "" || name == "." || name == "..":
			return ".", Subtree
		case len(name) > nameMax || end > pathMax:
			return parentOf(path[:end]), Subtree
		}
		start = end + 1
	}
	return path, kind
}

// validPath reports whether path is one that a journal holds. Nothing else must come out of it, for
// a path is joined to the source without another look.
func validPath(path string) bool {
	p, _ := held(path, Subtree)
	return p == path
}

// parentOf gives the directory that path is in.
func parentOf(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return "."
}
