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
	replacedMessage             // a directory gave way to something else, and rsync had not noticed
	deviceMessage               // a file became a device and the whole rsync ends
	strayMessage                // a path leads through something that is no directory any more, and the whole rsync ends
	limitMessage                // there was more to delete than allowed
	resentMessage               // what was written of a file was not what was sent, and it is sent again
	rereadMessage               // an attribute could not be read again when it was asked for; if the file is gone, that was said
)

// A message is a line in which rsync says what went wrong.
type message struct {
	kind messageKind
	// names are what may be the path it speaks of, the likeliest first; of two paths with quotation marks in
	// them it is not clear where the first one ends. Absolute, or relative to the source or target.
	names []string
	errno syscall.Errno
	text  string
}

// parseMessage understands the forms of rsync 3.1 to 3.5: rsyserr's
// `rsync: [role] what failed "path": strerror (errno)` and the ones that say it in other ways. The
// daemon whose module it is, if there is one, says `"path" (in module)`.
func parseMessage(line, module string) message {
	text := unescape(line)
	m := message{text: strings.TrimPrefix(text, "rsync: ")}
	role, rest := "", text // sender, generator, receiver, …
	if after, ok := strings.CutPrefix(text, "rsync: ["); ok {
		role, rest, _ = strings.Cut(after, "] ")
		m.text = rest
	}
	if module != "" {
		rest = strings.ReplaceAll(rest, `" (in `+module+`)`, `"`)
	}
	if m.special(rest) {
		return m
	}
	said, errno, ok := cutErrno(rest)
	if !ok && !strings.HasPrefix(rest, "get_xattr_data: ") { // `… returned 5`, of an attribute that was changed
		return m
	}
	m.errno = errno
	m.names = readings(said)
	if len(m.names) == 0 {
		return m
	}
	m.kind = failedMessage
	switch sender := role == "sender" || role == "client"; {
	case role == "generator" && strings.HasSuffix(said, ", ACL_TYPE_DEFAULT)") && errno == syscall.EACCES: // posix_acl_xattr_get, of what is no directory
		m.kind = replacedMessage
	case sender && errno == syscall.ENOENT:
		m.kind = vanishedMessage
	case sender:
		m.kind = unreadMessage
	}
	return m
}

// ofSource reports whether a name in the message, if it is absolute, is below the source, and is that of no temporary file.
func (m message) ofSource() bool {
	switch m.kind {
	case unreadMessage, vanishedMessage, keptMessage, typeMessage, strayMessage, rereadMessage:
		return true
	}
	return false
}

// ofWriting reports whether the message is of what was being written, of which a name on the target that the source
// does not have is that of a temporary file.
func (m message) ofWriting() bool {
	return Failure{Reason: m.text}.OfAttributes() ||
		hasPrefix(m.text, "mkstemp ", "open ", "close failed ", "stat ", "rename ", "copy ", "symlink ", "link ", "mknod ")
}

// specialForms are messages without an errno, and ones with an errno by which nothing is lost. The
// path, if there is one, is between before and after, see between.
var specialForms = [...]struct {
	before, after string
	kind          messageKind
}{
	{`file has vanished: "`, `"`, vanishedMessage},
	{`directory has vanished: "`, `"`, vanishedMessage},
	{"cannot delete non-empty directory: ", "", keptMessage},
	{"could not make way for …: ", "", failedMessage},
	{"filename overflows max-path len by …: ", "", unreadMessage},
	{"skipping overly long name: ", "", unreadMessage},
	{`skipping symlink with 0-length value: "`, `"`, unreadMessage},
	{`skipping socket (creation unsupported here): "`, `"`, failedMessage},
	{"path too long: ", "", unreadMessage},
	{"temporary filename too long: ", "", failedMessage},
	{`uid 4294967295 (-1) is impossible to set on "`, `"`, failedMessage},
	{`gid 4294967295 (-1) is impossible to set on "`, `"`, failedMessage},
	{`recv_files: "`, `" is a directory`, failedMessage},
	{`ERROR: daemon refused to receive file "`, `"`, failedMessage},
	{`ERROR: daemon refused to receive directory "`, `"`, failedMessage},
	{"ERROR: ", " failed verification -- update discarded.", failedMessage},
	{"WARNING: ", " failed verification -- update discarded (will try again).", resentMessage},
	{`skipping non-regular file "`, `"`, typeMessage},
	{"do_fallocate ", "", noticeMessage},
	{"failed to open ", "", noticeMessage}, // the generator goes on without the old copy
	{"skipped diminished file: ", "", noticeMessage},
	{"*** Skipping any contents from this failed directory ***", "", skippedBelow},
	{"IO error encountered -- skipping file deletion", "", noDeletions},
	{"Deletions stopped due to --max-delete limit", "", limitMessage},
	{"attempt to copy device contents without --copy-devices", "", deviceMessage},
	{"ABORTING due to invalid path from sender: ", "", strayMessage},
	{"failed to re-read xattr … for ", "", rereadMessage},
	{"rsync error: ", "", noticeMessage},
	{"rsync warning: ", "", noticeMessage},
}

// special reports whether said is one of specialForms and takes it over.
func (m *message) special(said string) bool {
	for _, form := range specialForms {
		if name, ok := between(said, form.before, form.after); ok {
			m.kind, m.names = form.kind, []string{name}
			return true
		}
	}
	return false
}

// between returns what said has between before and after. A "…" in before stands for any words, up
// to the first place where what comes after it is found.
func between(said, before, after string) (string, bool) {
	before, mark, words := strings.Cut(before, "…")
	rest, ok := strings.CutPrefix(said, before)
	if ok && words {
		_, rest, ok = strings.Cut(rest, mark)
	}
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, after)
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

// bareForms are what rsyserr is given with a name that is not in quotation marks, see between.
var bareForms = [...]struct{ before, after string }{
	{"delete_file: …(", ") failed"},
	{"get_acl: …(", ")"},
	{"set_acl: refusing path-based ACL on ", " (no held fd)"},
	{"set_acl: …(", ")"},
}

// readings returns what may be the path in what rsyserr was given. Of two paths the first is the one on the
// target, but a temporary file in `rename "…" -> "…"`.
func readings(said string) []string {
	for _, form := range bareForms {
		if name, ok := between(said, form.before, form.after); ok {
			if i := strings.LastIndex(name, ", ACL_TYPE_"); i >= 0 {
				name = name[:i]
			}
			return []string{name}
		}
	}
	start, end := strings.IndexByte(said, '"'), strings.LastIndexByte(said, '"')
	if start == end {
		return nil
	}
	body := said[start+1 : end]
	var found []string
	switch {
	case hasPrefix(said, "rename ", "copy "):
		for _, name := range halves(body, `" -> "`) {
			if marked, ok := between(name[1], `"`, `"`); ok { // `rename "a" -> ""b"" failed`
				found = append(found, marked)
			}
			found = append(found, name[1])
		}
	case hasPrefix(said, "symlink ", "link "), strings.Contains(said[:start], "xattr("):
		// `link "a" => b failed`: the mark that ends a is the last one, if there is none in b.
		for _, between := range [...]string{`" -> "`, `" => `, `","`} {
			for _, name := range halves(body, between) {
				found = append(found, name[0])
			}
		}
	}
	return append(found, body)
}

// halves divides s at each place where there is sep.
func halves(s, sep string) [][2]string {
	var found [][2]string
	for at := 0; ; at++ {
		next := strings.Index(s[at:], sep)
		if next < 0 {
			return found
		}
		at += next
		found = append(found, [2]string{s[:at], s[at+len(sep):]})
	}
}

func hasPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(s, prefix) })
}
