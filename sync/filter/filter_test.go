package filter

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// patterns has one exclude pattern a line. The paths it excludes come first, then those it does
// not; a trailing slash marks a directory. Most of them are in rsync(1), "PATTERN MATCHING RULES"
// and the examples around it.
var patterns = []struct {
	pattern  string
	excluded string
	included string
}{
	{"*.o", "x.o a/b/x.o .o d.o/ d.o/x", "x.oo x.O"},
	{"foo", "foo a/foo a/foo/b foo/", "afoo foob Foo"},
	{"/foo", "foo foo/bar", "a/foo"},
	{"foo/", "foo/ foo/bar a/foo/", "foo a/foo"},
	{"/foo/", "foo/ foo/bar", "foo a/foo/ a/foo/b"},
	{"sub/foo", "sub/foo a/sub/foo a/sub/foo/b", "foo xsub/foo sub/a/foo"},
	{"/foo/*/bar", "foo/a/bar foo/a/bar/b", "foo/bar foo/a/b/bar a/foo/b/bar"},
	{"/foo/**/bar", "foo/a/bar foo/a/b/bar", "foo/bar foo/bar/ a/foo/b/bar"},
	{"foo/**/bar", "foo/a/bar x/foo/a/b/bar", "foo/bar xfoo/a/bar"},
	{"a/*/c", "a/b/c x/a/b/c", "a/c a/b/b/c"},
	{"/*/.cache/", "u/.cache/ u/.cache/x", ".cache/ u/.cache u/v/.cache/"},
	{"cache/*", "cache/a cache/a/b x/cache/a", "cache/ cache"},
	{"cache/**", "cache/a cache/a/b x/cache/a", "cache/ xcache/a"},
	{"cache/***", "cache/ cache/a cache/a/b x/cache/ x/cache/y", "cache x/cache xcache/ xcache/a"},
	{"/cache/***", "cache/ cache/a", "cache x/cache/"},
	{"ca***", "cache cache/ x/cache ca x/ca/y", "xca x/xca"},
	{"**/cache", "cache x/cache x/y/cache/", "xcache x/xcache"},
	{"**cache", "cache xcache x/y/xcache/", "caches"},
	{"**/a/b", "a/b x/a/b a/b/", "xa/b a/x/b"},
	{"a**b", "ab axb a/b x/a/y/b", "xab x/xa/b"},
	{"/a**b", "ab a/b a/x/b", "x/ab xa/b"},
	{"a/**/b", "a/x/b y/a/x/b", "a/b"},
	{"**/", "a/ a/b", "a"},
	{"*/", "a/ a/b .x/", "a"},
	{"*", "a a/b .x \xff\n", ""},
	{"***", "a a/b d/", ""},
	{"/***", "a a/b d/", ""},
	{"**/***", "a a/b d/", ""},
	{"*/***", "d/ d/a d/e/", "a"},
	{"?", "a \xff \n x/a", "ab"},
	{"[a-c]x", "ax bx cx d/cx", "dx Ax x"},
	{"[!a-c]x", "dx Ax \xffx", "ax x"},
	{"[^a-c]x", "dx Ax ^x", "ax x"},
	{"[]a]x", "]x ax", "bx"},
	{"[!]a]x", "bx", "]x ax"},
	{"[a-]x", "ax -x", "bx"},
	{"[-a]x", "ax -x", "bx"},
	{"[!-]x", "ax", "-x"},
	{"[--0]x", "-x .x 0x", "1x a/"},
	{"[c-a]x", "cx", "ax bx"},
	{"[a-c-e]x", "ax -x ex", "dx"},
	{`[\]]x`, "]x", `\x`},
	{`[\a-c]x`, "bx", `\x`},
	{`[a-\c]x`, "bx cx", `\x`},
	{"[[:alpha:]]x", "ax Zx", "0x \xe4x :x"},
	{"[[:digit:]-z]x", "0x -x zx", "ax"},
	{"[![:space:]]x", "ax", "\tx"},
	{"[[:punct:][:upper:]]x", "!x ~x Ax", "ax 0x"},
	{"[[:]x", "[x :x", "ax"},
	{"[[:alpha]x", "[x :x ax px", "bx"},
	{"[[:nonsense:]]x", "", "nx :x"},
	{"[[::]]x", "", ":x"},
	{"[a", "", "a [a"},
	{`[a\`, "", "a"},
	{"x[a/b]y", "", "xay x/y xay/"},
	{`a\b`, `a\b x/a\b`, "ab"},
	{`a\b*`, "ab abc", `a\b`},
	{`a\*`, "a*", `ab a\*`},
	{`a\[b`, "a[b", `a\[b`},
	{`*\`, "", `a\ a`},
	{`a\`, `a\`, "a"},
	{"a//b", "", "a/b"},
	{"./a", "", "a"},
	{"a[!x]b", "a-b", "axb a/b"},
	{"!", "! a/!", "a"},
	{"#a", "#a", "a"},
	{"\xff", "\xff a/\xff", "\xfe"},
}

func TestPatterns(t *testing.T) {
	for _, test := range patterns {
		rules, err := Parse(nil, []string{test.pattern})
		if err != nil {
			t.Errorf("%q: %v", test.pattern, err)
			continue
		}
		for _, field := range split(test.excluded) {
			if path, dir := strings.CutSuffix(field, "/"); !rules.Excluded(path, dir) {
				t.Errorf("%q does not exclude %q", test.pattern, field)
			}
		}
		for _, field := range split(test.included) {
			if path, dir := strings.CutSuffix(field, "/"); rules.Excluded(path, dir) {
				t.Errorf("%q excludes %q", test.pattern, field)
			}
		}
	}
}

// split splits at blanks only: the names hold other white space.
func split(names string) []string {
	if names == "" {
		return nil
	}
	return strings.Split(names, " ")
}

func TestOrder(t *testing.T) {
	rules := mustParse(t, []string{"/keep.tmp", "keep/"}, []string{"*.tmp", "/*/"})
	for path, want := range map[string]bool{
		"keep.tmp":         false,
		"x.tmp":            true,
		"keep":             false, // asked as a directory
		"other":            true,
		"keep/x.tmp":       true,
		"keep/x":           false,
		"other/keep/x":     true, // rsync never gets there
		"keep/keep.tmp":    true,
		"keep/sub/x":       false,
		"keep/sub/keep/x":  false,
		"other/x/keep.tmp": true,
	} {
		if got := rules.Excluded(path, !strings.Contains(path, ".")); got != want {
			t.Errorf("Excluded(%q) = %v, want %v", path, got, want)
		}
	}
	if rules.Match("other/keep/x", false) {
		t.Error("Match looks at the directories on the way")
	}
}

func TestNothingExcluded(t *testing.T) {
	var none *Rules
	for _, rules := range []*Rules{none, {}, mustParse(t, nil, nil), mustParse(t, []string{"*"}, nil)} {
		if rules.Excluded("a/b", false) || rules.Match("a", true) || rules.Excluded(".", true) {
			t.Errorf("%v excludes something", rules)
		}
	}
	if none.Args() != nil {
		t.Error("no rules have arguments")
	}
	everything := mustParse(t, nil, []string{"*", "***", "/**", "?", "."})
	if everything.Excluded(".", true) || everything.Match(".", true) {
		t.Error("the root itself is excluded")
	}
}

func TestRefused(t *testing.T) {
	for pattern, want := range map[string]string{
		"":                        "empty",
		"/":                       "only slashes",
		"///":                     "only slashes",
		"a\x00b":                  "NUL",
		"a\nb":                    "newline",
		strings.Repeat("x", 4096): "4096 bytes",
	} {
		_, err := Parse([]string{"fine", pattern}, []string{"x"})
		if err == nil || !strings.HasPrefix(err.Error(), "include ") || !strings.Contains(err.Error(), want) {
			t.Errorf("include %.10q: %v", pattern, err)
		}
		_, err = Parse([]string{"x"}, []string{"fine", pattern})
		if err == nil || !strings.HasPrefix(err.Error(), "exclude ") || !strings.Contains(err.Error(), want) {
			t.Errorf("exclude %.10q: %v", pattern, err)
		}
	}
	if _, err := Parse(nil, []string{strings.Repeat("x", 4095)}); err != nil {
		t.Error(err)
	}
}

func TestArgs(t *testing.T) {
	got := mustParse(t, []string{"/a b/"}, []string{"- x", " y "}).Args()
	want := []string{"--filter=+ /a b/", "--filter=- - x", "--filter=-  y "}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is below excluded directories is protected on the target, unless an include pattern may take one back.
func TestShields(t *testing.T) {
	for _, test := range []struct {
		include, exclude string
		shield           string
	}{
		{"", "cache/", "cache/**"},
		{"", "/cache/", "/cache/**"},
		{"", "/*/.cache/", "/*/.cache/**"},
		{"", `a\b/`, `a\\b/**`},
		{"", `a\*b/`, `a\*b/**`},
		{"", "**/x/", "**/x/**"},
		{"", "x/***/", "x/**"},
		{"", "cache", ""},
		{"", "[a/", ""},
		{"/home/*.c", "cache/", "cache/**"},
		{"/home/", "/*/.cache/", "/*/.cache/**"},
		{"/home/keep", ".c*/", ".c*/**"},
		{"/me/.cache/", "/*/.cache/", ""},
		{"*", "cache/", ""},
		{"*/", "cache/", ""},
		{"c**", "cache/", ""},
		{`\cache`, "cache/", ""},
		{"x[a/", "cache/", ""},
	} {
		var include []string
		if test.include != "" {
			include = []string{test.include}
		}
		got := mustParse(t, include, []string{test.exclude}).shields()
		if want := "--filter=P " + test.shield; len(got) > 1 || len(got) == 1 && got[0] != want || len(got) == 0 && test.shield != "" {
			t.Errorf("include %q, exclude %q: %q, want %q", test.include, test.exclude, got, want)
		}
	}
}

func TestLiteral(t *testing.T) {
	paths := []string{"a", "a/b", "*", "x", `\*`, `a\b`, `a\b[c]`, "[c]", "c", "a?", "ab", "- x", " ", "!", "**", "a/***", "d*/x"}
	for _, literal := range paths {
		rules := mustParse(t, nil, []string{Literal(literal)})
		for _, path := range paths {
			if got := rules.Match(path, false); got != (path == literal) {
				t.Errorf("Literal(%q) = %q; Match(%q) = %v", literal, Literal(literal), path, got)
			}
		}
	}
}

func TestSubtree(t *testing.T) {
	for _, dir := range []string{"a", "a/b", "*", `a\b`, "[c]"} {
		rules := mustParse(t, nil, []string{Subtree(dir)})
		for path, want := range map[string]bool{dir: true, dir + "/x": true, dir + "/x/y": true, dir + "x": false, "x/" + dir: false, "c": false, "ab": false} {
			if got := rules.Match(path, true); got != want {
				t.Errorf("Subtree(%q) = %q; Match(%q) = %v", dir, Subtree(dir), path, got)
			}
		}
		if rules.Match(dir, false) {
			t.Errorf("Subtree(%q) matches what is no directory", dir)
		}
	}
}

// TestHardPatterns asks what takes a matcher that goes back to every star longer than anyone waits.
func TestHardPatterns(t *testing.T) {
	a, dirs := strings.Repeat("a", 4000), strings.Repeat("aaaaaaa/", 500)+"a"
	patterns := []string{
		"*a*a*a*a*a*a*a*a*a*a*a*b", strings.Repeat("*a", 2000) + "b", strings.Repeat("**a", 1300) + "b*c",
		"**" + strings.Repeat("a*", 2000) + "b?", "**" + strings.Repeat("a", 2000) + "b*", "a**" + strings.Repeat("*/**a", 800) + "[b]",
		"**" + strings.Repeat("*a/", 400) + "?b[c]", "**a*" + strings.Repeat("a", 3000) + "[b]", "**" + strings.Repeat("?", 2000) + "[b]",
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		for _, pattern := range patterns {
			rules, err := Parse(nil, []string{pattern, "/" + pattern})
			if err != nil {
				t.Errorf("%.20q: %v", pattern, err)
				continue
			}
			if rules.Match(a, false) || rules.Match(dirs, false) {
				t.Errorf("%.20q matches", pattern)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("still matching")
	}
}

func TestNoAllocation(t *testing.T) {
	rules := typicalRules(t)
	if n := testing.AllocsPerRun(100, func() { rules.Excluded("home/anna/src/project/internal/x.go", false) }); n != 0 {
		t.Errorf("%v allocations per call", n)
	}
}

func BenchmarkExcluded(b *testing.B) {
	rules := typicalRules(b)
	for b.Loop() {
		rules.Excluded("home/anna/src/project/internal/x.go", false)
	}
}

func BenchmarkMatch(b *testing.B) {
	rules := typicalRules(b)
	for b.Loop() {
		rules.Match("home/anna/src/project/internal/x.go", false)
	}
}

func typicalRules(tb testing.TB) *Rules {
	return mustParse(tb, []string{"/home/*/.config/keep/"}, []string{
		"*.tmp", "*~", ".cache/", "/*/.local/share/Trash/", "node_modules/", "**/target/debug/***", "lost+found", "/proc/*", "core.[0-9]*", "/var/**/cache/",
	})
}

func mustParse(tb testing.TB, include, exclude []string) *Rules {
	tb.Helper()
	rules, err := Parse(include, exclude)
	if err != nil {
		tb.Fatal(err)
	}
	return rules
}
