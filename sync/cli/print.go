package cli

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// quote gives a path as a person can read it: as it is if it is plain, else in double quotes with
// Go's escapes.
func quote(path string) string {
	plain := utf8.ValidString(path) && !strings.ContainsFunc(path, func(r rune) bool {
		return !unicode.IsGraphic(r) || r == '"' || r == '\\' || r == unicode.ReplacementChar
	}) && strings.TrimSpace(path) == path
	if plain {
		return path
	}
	return strconv.Quote(path)
}

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
