package cli

import (
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// printLine writes a line for a person. All that people read and that may hold names, or words of other
// programs, goes through it: what could move the cursor, or make two lines of one, is escaped.
func printLine(out io.Writer, format string, args ...any) {
	fmt.Fprintln(out, printable(fmt.Sprintf(format, args...)))
}

// printable is text with Go's escapes for what is not graphic and for bytes that are not UTF-8.
func printable(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case unicode.IsGraphic(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		text = text[size:]
	}
	return b.String()
}

// quote gives a path as a person can read it: as it is if it is plain, else in double quotes with
// Go's escapes.
func quote(path string) string {
	plain := printable(path) == path && !strings.ContainsAny(path, "\"\\\uFFFD") && strings.TrimSpace(path) == path
	if plain {
		return path
	}
	return strconv.Quote(path)
}

// oneLine puts the lines of joined errors, as text, behind each other.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// putPath adds a path to a JSON object: as it is if it is text, else in base64 under another key.
func putPath(line map[string]any, path string) {
	if utf8.ValidString(path) {
		line["path"] = path
		return
	}
	line["path_base64"] = base64.StdEncoding.EncodeToString([]byte(path))
}

// ago gives a past moment as a person says it.
func ago(t time.Time) string {
	return fmt.Sprintf("%s ago", roundly(time.Since(t)))
}

// roundly gives a duration with two digits that matter.
func roundly(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}
