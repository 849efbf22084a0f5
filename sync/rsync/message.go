package rsync

import (
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A messageKind says what a line on rsync's standard error (and some on its standard output) means.
type messageKind uint8

const (
	unknownMessage  messageKind = iota
	failedMessage               // a path that was not brought over
	unreadMessage               // the same, because the source could not be read
	vanishedMessage             // a name that was gone from the source
	keptMessage                 // a directory that could not be deleted because of what stays in it
	typeMessage                 // a type that an option leaves out, or that only root can make
	noticeMessage               // nothing is lost
	skippedBelow                // what is below the directory just named was left out
	noDeletions                 // rsync does not delete because it could not read all of the source
	deviceMessage               // a file became a device and the whole rsync ends
	strayMessage                // a path leads through something that is no directory any more, and the whole rsync ends
)

// A message is a line in which rsync says what went wrong.
type message struct {
	kind messageKind
	// names are what may be the path it speaks of, the likeliest first; a name with a quotation
	// mark in it can be read in more than one way. Absolute, or relative to the source or target.
	names []string
	errno syscall.Errno
	text  string
}

// parseMessage understands the forms of rsync 3.1 to 3.5: rsyserr's
// `rsync: [role] what failed "path": strerror (errno)` and the ones that say it in other ways.
func parseMessage(line string) message {
	text := unescape(line)
	m := message{text: strings.TrimPrefix(text, "rsync: ")}
	role, rest := "", text // sender, generator, receiver, …
	if after, ok := strings.CutPrefix(text, "rsync: ["); ok {
		role, rest, _ = strings.Cut(after, "] ")
		m.text = rest
	}
	if m.special(rest) {
		return m
	}
	said, errno, ok := cutErrno(rest)
	if !ok {
		return m
	}
	m.errno = errno
	m.names = names(said)
	if len(m.names) == 0 {
		return m
	}
	m.kind = failedMessage
	switch sender := role == "sender" || role == "client"; {
	case sender && errno == syscall.ENOENT:
		m.kind = vanishedMessage
	case sender:
		m.kind = unreadMessage
	}
	return m
}

// specialForms are messages without an errno, and ones with an errno by which nothing is lost. The
// path, if there is one, is between before and after. A before that ends in "…: " stands for any
// words up to the next colon.
var specialForms = [...]struct {
	before, after string
	kind          messageKind
}{
	{"file has vanished: ", "", vanishedMessage},
	{"directory has vanished: ", "", vanishedMessage},
	{"cannot delete non-empty directory: ", "", keptMessage},
	{"could not make way for …: ", "", failedMessage},
	{"filename overflows max-path len by …: ", "", unreadMessage},
	{"skipping overly long name: ", "", unreadMessage},
	{"skipping symlink with 0-length value: ", "", unreadMessage},
	{"skipping socket (creation unsupported here): ", "", failedMessage},
	{"path too long: ", "", unreadMessage},
	{"temporary filename too long: ", "", failedMessage},
	{"uid 4294967295 (-1) is impossible to set on ", "", failedMessage},
	{"gid 4294967295 (-1) is impossible to set on ", "", failedMessage},
	{"recv_files: ", " is a directory", failedMessage},
	{"ERROR: daemon refused to receive file ", "", failedMessage},
	{"ERROR: daemon refused to receive directory ", "", failedMessage},
	{"ERROR: ", " failed verification -- update discarded.", failedMessage},
	{"WARNING: ", " failed verification -- update discarded (will try again).", noticeMessage},
	{"skipping non-regular file ", "", typeMessage},
	{"do_fallocate ", "", noticeMessage},
	{"failed to open ", "", noticeMessage}, // the generator goes on without the old copy
	{"skipped diminished file: ", "", noticeMessage},
	{"*** Skipping any contents from this failed directory ***", "", skippedBelow},
	{"IO error encountered -- skipping file deletion", "", noDeletions},
	{"attempt to copy device contents without --copy-devices", "", deviceMessage},
	{"ABORTING due to invalid path from sender: ", "", strayMessage},
	{"rsync error: ", "", noticeMessage},
	{"rsync warning: ", "", noticeMessage},
}

// special reports whether said is one of specialForms and takes it over.
func (m *message) special(said string) bool {
	for _, form := range specialForms {
		before, words := strings.CutSuffix(form.before, "…: ")
		name, ok := strings.CutPrefix(said, before)
		if ok && words {
			_, name, ok = strings.Cut(name, ": ")
		}
		if !ok || !strings.HasSuffix(name, form.after) {
			continue
		}
		name = strings.TrimSuffix(name, form.after)
		m.kind = form.kind
		m.names = append(names(name), name)
		return true
	}
	return false
}

// cutErrno splits "…: Permission denied (13)" before the description.
func cutErrno(s string) (before string, errno syscall.Errno, ok bool) {
	open := strings.LastIndexByte(s, '(')
	if open < 0 || !strings.HasSuffix(s, ")") {
		return s, 0, false
	}
	n, err := strconv.ParseUint(s[open+1:len(s)-1], 10, 12)
	colon := strings.LastIndex(s[:open], ": ")
	if err != nil || colon < 0 {
		return s, 0, false
	}
	return s[:colon], syscall.Errno(n), true
}

// names returns what may be the path in a message: what is in quotation marks, or in parentheses.
func names(said string) []string {
	said = cutModule(said)
	if i := strings.IndexByte(said, '"'); i >= 0 {
		return quoted(said, i)
	}
	open, end := strings.IndexByte(said, '('), strings.LastIndexByte(said, ')')
	if open < 0 || end < open {
		return nil
	}
	name := said[open+1 : end] // delete_file: rmdir(d) failed; set_acl: sys_acl_set_file(d, ACL_TYPE_ACCESS)
	if i := strings.LastIndex(name, ", ACL_TYPE_"); i >= 0 {
		name = name[:i]
	}
	return []string{name}
}

// quoted returns the readings of the quoted path that begins at said[start]. Of two paths the first
// is the one on the target: a temporary file in `rename "…" -> "…"`, so there the second comes first.
func quoted(said string, start int) []string {
	last := strings.LastIndexByte(said, '"')
	if last <= start {
		return nil
	}
	body := said[start+1 : last]
	if !strings.Contains(said[:start], "xattr(") && !hasPrefix(said, "rename ", "copy ", "symlink ", "link ") {
		return []string{body}
	}
	var found []string
	for _, between := range [...]string{`" -> "`, `","`, `" => `} {
		for at := strings.Index(body, between); at >= 0; {
			first, second := body[:at], body[at+len(between):]
			if hasPrefix(said, "rename ", "copy ") {
				found = append(found, strings.Trim(second, `"`))
			}
			found = append(found, first)
			next := strings.Index(second, between)
			if next < 0 {
				break
			}
			at += len(between) + next
		}
	}
	// `link "a" => b failed`: the mark that ends a is the last one.
	return append(found, body)
}

// cutModule removes ` (in module)`, which a daemon adds to a path.
func cutModule(said string) string {
	i := strings.LastIndex(said, `" (in `)
	if i < 0 {
		return said
	}
	end := strings.IndexByte(said[i:], ')')
	if end < 0 {
		return said
	}
	return said[:i+1] + said[i+end+1:]
}

func hasPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(s, prefix) })
}
