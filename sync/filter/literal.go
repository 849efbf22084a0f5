package filter

import "strings"

// Literal returns the pattern that matches just this path, relative to the root of the transfer, and
// no other. It is for rsync's command line, as in "--filter=- " + Literal(path): a path may hold a
// newline, which Parse takes for a mistake.
func Literal(path string) string {
	// Without a wildcard in the pattern, rsync takes a backslash for itself.
	if strings.ContainsAny(path, "*?[") {
		path = escaper.Replace(path)
	}
	return "/" + path
}

// Subtree returns the pattern that matches this directory and everything below it, and no other.
func Subtree(path string) string { return "/" + escaper.Replace(path) + "/***" }

// Below is Literal for everything below the path.
func Below(path string) string { return "/" + escaper.Replace(path) + "/**" }

var escaper = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)
