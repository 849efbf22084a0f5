// Package filter evaluates rsync's include and exclude patterns in this process, with rsync's
// meaning. rsync tests the names it finds, but never the parents of a name that it is given in a
// list; so whoever makes the list has to know what rsync would have left out.
//
// The meaning is that of rsync 3.5.0, seen in its sources and held against the program itself in
// the tests. Patterns and paths are bytes: case matters, and no encoding is assumed.
package filter

import (
	"fmt"
	"strings"
)

// Rules is an ordered list of patterns; the first that matches a name decides about it, and a name
// that none matches is included. The nil and the zero Rules exclude nothing. Rules do not change
// after Parse and may be used from any goroutine.
type Rules struct {
	rules []rule
}

// Parse returns the rules that try the include patterns in their order, then the exclude patterns
// in theirs. The error names the first pattern that rsync cannot be given or would ignore.
func Parse(include, exclude []string) (*Rules, error) {
	rules := make([]rule, 0, len(include)+len(exclude))
	for _, pattern := range include {
		rule, err := newRule(pattern)
		if err != nil {
			return nil, fmt.Errorf("include %.80q: %w", pattern, err)
		}
		rule.include = true
		rules = append(rules, rule)
	}
	for _, pattern := range exclude {
		rule, err := newRule(pattern)
		if err != nil {
			return nil, fmt.Errorf("exclude %.80q: %w", pattern, err)
		}
		rules = append(rules, rule)
	}
	return &Rules{rules}, nil
}

// Excluded reports whether rsync leaves path out: because of the path itself, or because of a
// directory on the way to it, into which rsync would not have looked. The path is relative to the
// root of the transfer, clean, without a leading or trailing slash; the root itself, ".", is never
// excluded. dir says that path is a directory, not a symlink to one; of a name that is gone, ask
// both ways.
func (r *Rules) Excluded(path string, dir bool) bool {
	if r == nil || len(r.rules) == 0 {
		return false
	}
	for i := range len(path) {
		if path[i] == '/' && r.Match(path[:i], true) {
			return true
		}
	}
	return r.Match(path, dir)
}

// Match is Excluded for callers that know the directories on the way to path not to be excluded,
// such as one that walks a tree and does not enter what Match excludes.
func (r *Rules) Match(path string, dir bool) bool {
	if r == nil || path == "." {
		return false
	}
	base := path[strings.LastIndexByte(path, '/')+1:]
	for i := range r.rules {
		if r.rules[i].matches(path, base, dir) {
			return !r.rules[i].include
		}
	}
	return false
}

// Args returns the rules as arguments for rsync, to which they mean the same. They have the form
// "--filter=- PATTERN", not "--exclude=PATTERN": there a pattern "!" empties the list, and "- x" and
// "+ x" stand for x. After the one blank of a filter rule everything is pattern, blanks at either
// end included. Before them come arguments that protect on the target what is in excluded directories, see shields.
func (r *Rules) Args() []string {
	if r == nil {
		return nil
	}
	args := r.shields()
	for _, rule := range r.rules {
		sign := "-"
		if rule.include {
			sign = "+"
		}
		args = append(args, "--filter="+sign+" "+rule.pattern)
	}
	return args
}
