package rsync

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// itemFormat begins with a byte that begins no other line of rsync's standard output.
const itemFormat = "=%i %b %l %n"

// An Action is what happens to a name on the target.
type Action uint8

const (
	Create Action = iota + 1
	Update
	Delete
)

func (a Action) String() string {
	switch a {
	case Create:
		return "create"
	case Update:
		return "update"
	case Delete:
		return "delete"
	}
	return "nothing"
}

// An Item is one change of the target.
type Item struct {
	Action Action
	// Path is relative to the source, without a slash at the end; Dir says that it is a directory.
	Path string
	Dir  bool
	// Bytes of file data that were sent; in a dry run the size of a file that would be.
	Bytes int64
	// Changes is rsync's own notation, eleven characters, "%i" in rsyncd.conf(5)'s log format.
	Changes string
}

// parseItem reads a line that itemFormat made, without its end. The name is escaped.
func parseItem(line string, dryRun bool) (Item, bool) {
	if len(line) < 13 || line[0] != '=' || line[12] != ' ' {
		return Item{}, false
	}
	item := Item{Changes: line[1:12]}
	sentText, rest, ok1 := strings.Cut(line[13:], " ")
	sizeText, name, ok2 := strings.Cut(rest, " ")
	sent, err1 := strconv.ParseInt(sentText, 10, 64)
	size, err2 := strconv.ParseInt(sizeText, 10, 64)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || name == "" {
		return Item{}, false
	}
	item.Path, item.Dir = strings.CutSuffix(unescape(name), "/")
	item.Action = Update
	switch {
	case strings.HasPrefix(item.Changes, "*deleting"):
		item.Action = Delete
	case strings.HasPrefix(item.Changes[2:], "+++"):
		item.Action = Create
	}
	if item.sends() {
		// What was sent includes the framing of the protocol.
		item.Bytes = min(sent, size)
		if dryRun {
			item.Bytes = size
		}
	}
	return item, true
}

// sends reports whether the content of a file goes over to the target.
func (i Item) sends() bool { return i.Changes[0] == '<' || i.Changes[0] == '>' }

// unescape undoes what rsync does to bytes that it does not want to print: \#ooo, octal. A
// backslash before # and three digits is itself escaped, so this is never ambiguous.
func unescape(s string) string {
	if !strings.Contains(s, `\#`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c, ok := escaped(s[i:]); ok {
			b.WriteByte(c)
			i += len(`\#ooo`) - 1
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// escape is what unescape undoes.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if _, ok := escaped(s[i:]); ok || s[i] < ' ' && s[i] != '\t' {
			fmt.Fprintf(&b, `\#%03o`, s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func escaped(s string) (byte, bool) {
	if len(s) < 5 || s[:2] != `\#` {
		return 0, false
	}
	c, err := strconv.ParseUint(s[2:5], 8, 8)
	return byte(c), err == nil && s[2] != '+'
}

// parseProgress reads what --info=progress2 prints between carriage returns:
// "  1,238,099  14%  146.38kB/s    0:00:08 (xfr#5, to-chk=169/396)", here with --no-human-readable.
func parseProgress(line string) (sent int64, percent int, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || !strings.HasSuffix(fields[1], "%") || !strings.HasSuffix(fields[2], "B/s") {
		return 0, 0, false
	}
	sent, err1 := strconv.ParseInt(fields[0], 10, 64)
	percent, err2 := strconv.Atoi(strings.TrimSuffix(fields[1], "%"))
	return sent, percent, err1 == nil && err2 == nil && percent >= 0 && percent <= 100
}

// parseEntries reads the line of --info=stats2 that counts the entries of the source.
func parseEntries(line string) (int, bool) {
	rest, ok := strings.CutPrefix(line, "Number of files: ")
	if !ok {
		return 0, false
	}
	digits, _, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(digits)
	return n, err == nil
}

// A lineWriter calls line for every line written to it, without its end, which may be a newline or
// a carriage return; close hands over what is left. Empty lines are left out.
type lineWriter struct {
	line func(string)
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexAny(w.rest, "\r\n")
		if i < 0 {
			return len(p), nil
		}
		if i > 0 {
			w.line(string(w.rest[:i]))
		}
		w.rest = w.rest[i+1:]
	}
}

func (w *lineWriter) close() {
	if len(w.rest) > 0 {
		w.line(string(w.rest))
		w.rest = nil
	}
}
