package profile

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// longest is the longest path a system call takes, Linux's PATH_MAX without its NUL.
const longest = 4095

// cleanPath returns the absolute path s without superfluous slashes and dots. It refuses "..", which
// cannot be taken out of a path that leads through symlinks.
func cleanPath(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("the path is empty")
	case strings.Contains(s, "\x00"):
		return "", fmt.Errorf("%q holds a NUL byte", s)
	case len(s) > longest:
		return "", fmt.Errorf("%.40q… has %d bytes, the kernel takes at most %d", s, len(s), longest)
	case s[0] == '~':
		return "", fmt.Errorf("%q is not expanded", s)
	case s[0] != '/':
		return "", fmt.Errorf("%q is not an absolute path", s)
	case slices.Contains(strings.Split(s, "/"), ".."):
		return "", fmt.Errorf("%q holds \"..\"", s)
	}
	return path.Clean(s), nil
}

// resolve returns file, which is absolute and clean, with symlinks resolved as far as it exists and
// may be looked at.
func resolve(file string) string {
	if resolved, err := filepath.EvalSymlinks(file); err == nil {
		return resolved
	}
	if file == "/" {
		return file
	}
	return filepath.Join(resolve(filepath.Dir(file)), filepath.Base(file))
}

// below returns file relative to dir, "." for dir itself, and whether it is in dir. Both are clean,
// and both absolute or both relative.
func below(file, dir string) (rel string, ok bool) {
	if file == dir {
		return ".", true
	}
	if dir != "/" {
		dir += "/"
	}
	return strings.CutPrefix(file, dir)
}
