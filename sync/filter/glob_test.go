package filter

import (
	"strings"
	"testing"
)

// FuzzGlob holds the matcher against one that simply tries everything.
func FuzzGlob(f *testing.F) {
	for _, pattern := range []string{"*a*b", "**a*b/c*d**e*", "a[!b-d]?*", "**/x*/**y", "[[:alpha:]]*[]a-]", `\**\[`} {
		f.Add(pattern, "aab/c/abcd/xyz/aby")
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern)*len(text) > 1e6 {
			return
		}
		tokens, ok := tokenize(pattern, true)
		if !ok {
			return
		}
		g := newGlob(tokens)
		if got, want := g.matches(text), tryEverything(tokens, text); got != want {
			t.Errorf("%q matches %q: %v, want %v", pattern, text, got, want)
		}
	})
}

// FuzzRules holds a rule against the steps rsync's sources take to match its pattern.
func FuzzRules(f *testing.F) {
	for _, test := range patterns {
		f.Add(test.pattern, "a/sub/foo/x.o", true)
	}
	f.Add("**/a/***", "x/a", true)
	f.Add("**[a]**/***", "x/a", true)
	f.Fuzz(func(t *testing.T, pattern, path string, dir bool) {
		rules, err := Parse(nil, []string{pattern})
		if err != nil || len(pattern)*len(path) > 1e6 || !cleanPath(path) {
			return
		}
		if got, want := rules.Match(path, dir), matchStepwise(pattern, path, dir); got != want {
			t.Errorf("%q matches %q (directory: %v): %v, want %v", pattern, path, dir, got, want)
		}
		want := rules.Match(path, dir)
		for i := range path {
			want = want || path[i] == '/' && rules.Match(path[:i], true)
		}
		if got := rules.Excluded(path, dir); got != want {
			t.Errorf("%q excludes %q (directory: %v): %v, want %v", pattern, path, dir, got, want)
		}
		if including, _ := Parse([]string{pattern}, []string{pattern}); including.Excluded(path, dir) {
			t.Errorf("%q as an include pattern has not the first word about %q", pattern, path)
		}
	})
}

func cleanPath(path string) bool {
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." || name == ".." {
			return false
		}
	}
	return !strings.Contains(path, "\x00")
}

// matchStepwise does without alternative globs: where rsync puts a slash before or after the text,
// it does so too.
func matchStepwise(pattern, path string, dir bool) bool {
	pattern, dirOnly := strings.CutSuffix(pattern, "/")
	if dirOnly && !dir {
		return false
	}
	tail, anchored := strings.CutPrefix(pattern, "/")
	tokens, ok := tokenize(tail, strings.ContainsAny(pattern, "*?["))
	if !ok {
		return false
	}
	deep := strings.Contains(pattern, "**")
	text := path
	if strings.HasSuffix(pattern, "***") && dir {
		text += "/"
	}
	elements := strings.Split(path, "/")
	count := strings.Count(pattern, "/") + 1
	switch {
	case anchored:
		return tryEverything(tokens, text)
	case strings.HasPrefix(pattern, "**"):
		return tryEverything(tokens, "/"+text)
	case !deep && len(elements) < count:
		return false
	case !deep:
		return tryEverything(tokens, strings.Join(elements[len(elements)-count:], "/"))
	}
	for {
		if tryEverything(tokens, text) {
			return true
		}
		var more bool
		if _, text, more = strings.Cut(text, "/"); !more {
			return false
		}
	}
}

// tryEverything keeps, for each position in the text, whether the tokens so far can end there.
func tryEverything(tokens []token, text string) bool {
	ends := make([]bool, len(text)+1)
	ends[0] = true
	for _, t := range tokens {
		next := make([]bool, len(ends))
		for i := range ends {
			switch t.op {
			case star, deepStar:
				next[i] = ends[i] || i > 0 && next[i-1] && (t.op == deepStar || text[i-1] != '/')
			default:
				next[i] = i > 0 && ends[i-1] && t.matches(text[i-1])
			}
		}
		ends = next
	}
	return ends[len(text)]
}
