package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain ä 中":               "plain ä 中",
		"it's \"so\" \\":          "it's \"so\" \\",
		"a\nb\tc\r\x1b[2J\x00":    `a\nb\tc\r\x1b[2J\x00`,
		"\xff\u202e\u0085\ufffd":  `\xff\u202e\u0085` + "\ufffd",
		"half a letter: \xc3 end": `half a letter: \xc3 end`,
	} {
		if got := printable(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestLines(t *testing.T) {
	name := errors.New("no file a\nb")
	both := errors.Join(name, errors.New("two"))
	for _, test := range []struct {
		err  error
		want []string
	}{
		{name, []string{"no file a\nb"}},
		{both, []string{"no file a\nb", "two"}},
		{fmt.Errorf("x: %w", &usageError{both}), []string{"x: no file a\nb", "x: two"}},
		{fmt.Errorf("%w; usage: y", both), []string{"no file a\nb\ntwo; usage: y"}},
		{fmt.Errorf("%w, %w", name, both), []string{"no file a\nb, no file a\nb\ntwo"}},
		{errors.Join(fmt.Errorf("x: %w", context.Canceled), context.Canceled, name), []string{"interrupted", "no file a\nb"}},
	} {
		if got := lines(test.err); !slices.Equal(got, test.want) {
			t.Errorf("%q: got %q, want %q", test.err, got, test.want)
		}
	}
}

func TestShellLine(t *testing.T) {
	for word, want := range map[string]string{
		"/a/b-c_1.toml": "/a/b-c_1.toml",
		"":              "''",
		"a b":           "'a b'",
		"~/x":           "'~/x'",
		"it's":          `'it'\''s'`,
		"a\n'\\\xff":    `$'a\n\'\\\xff'`,
	} {
		if got := shellLine(word); got != want {
			t.Errorf("%q: got %s, want %s", word, got, want)
		}
	}
}
