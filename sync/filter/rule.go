package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxPattern is the longest pattern in bytes: rsync discards one of MAXPATHLEN (4,096) bytes or
// more with a message, and goes on.
const maxPattern = 4095

// A rule is one pattern, ready to be matched.
type rule struct {
	pattern string // as it was given
	include bool
	dirOnly bool // only directories are matched
	// elements is how many of a path's last elements the globs are matched against, all of them
	// being needed; 0 stands for the whole path.
	elements int
	globs    []glob // any of them suffices
	dirGlobs []glob // these are also tried for directories
}

// newRule reads a pattern as rsync does. The globs of a pattern that can match nothing, such as one
// with an unclosed bracket, are empty: rsync accepts those too.
func newRule(pattern string) (rule, error) {
	if err := check(pattern); err != nil {
		return rule{}, err
	}
	body, dirOnly := strings.CutSuffix(pattern, "/")
	tail, anchored := strings.CutPrefix(body, "/")
	r := rule{pattern: pattern, dirOnly: dirOnly}

	// Whatever the brackets and backslashes around them: rsync looks for these as plain text.
	deep := strings.Contains(body, "**")
	if !deep && !anchored {
		r.elements = strings.Count(body, "/") + 1
	}
	tokens, ok := tokenize(tail, strings.ContainsAny(body, "*?["))
	if !ok {
		return r, nil
	}
	alternatives := [][]token{tokens}
	if deep && !anchored {
		alternatives = floating(tokens)
	}
	for _, tokens := range alternatives {
		r.globs = append(r.globs, newGlob(tokens))
		if strings.HasSuffix(body, "***") && endsBelow(tokens) {
			r.dirGlobs = append(r.dirGlobs, newGlob(tokens[:len(tokens)-2]))
		}
	}
	return r, nil
}

// check refuses what cannot be a pattern, and what rsync would silently make nothing of.
func check(pattern string) error {
	switch {
	case pattern == "":
		return errors.New("the pattern is empty")
	case strings.Trim(pattern, "/") == "":
		return errors.New("the pattern has only slashes and matches nothing")
	case strings.Contains(pattern, "\x00"):
		return errors.New("the pattern holds a NUL byte, which no name does")
	case strings.Contains(pattern, "\n"):
		return errors.New("the pattern holds a newline; use ? to match one in a name")
	case len(pattern) > maxPattern:
		return fmt.Errorf("the pattern has %d bytes, rsync takes at most %d", len(pattern), maxPattern)
	}
	return nil
}

// floating returns what an unanchored pattern with a ** in it stands for. With the ** in front,
// rsync matches it against the path with a slash before it, so that "**/x" is also an x at the top;
// otherwise it tries the pattern at every element.
func floating(tokens []token) [][]token {
	if tokens[0].op != deepStar {
		return [][]token{tokens, slices.Concat([]token{{op: deepStar}, slash}, tokens)}
	}
	if len(tokens) > 1 && tokens[1] == slash {
		return [][]token{tokens, tokens[2:]}
	}
	return [][]token{tokens}
}

// endsBelow reports whether the pattern ends in a slash and stars. Such a "x/***" matches the
// directory x as well as everything below it.
func endsBelow(tokens []token) bool {
	n := len(tokens)
	return n >= 2 && tokens[n-2] == slash && tokens[n-1].op == deepStar
}

// matches reports whether the rule decides about path, whose last element is base.
func (r *rule) matches(path, base string, dir bool) bool {
	if r.dirOnly && !dir {
		return false
	}
	text := path
	switch r.elements {
	case 0:
	case 1:
		text = base
	default:
		var ok bool
		if text, ok = lastElements(path, r.elements); !ok {
			return false
		}
	}
	return matchesAny(r.globs, text) || dir && matchesAny(r.dirGlobs, text)
}

func matchesAny(globs []glob, text string) bool {
	for i := range globs {
		if globs[i].matches(text) {
			return true
		}
	}
	return false
}

// lastElements returns the last n slash-separated elements of path; ok is false if it has fewer.
func lastElements(path string, n int) (tail string, ok bool) {
	end := len(path)
	for ; n > 0; n-- {
		if end < 0 {
			return "", false
		}
		end = strings.LastIndexByte(path[:end], '/')
	}
	return path[end+1:], true
}
