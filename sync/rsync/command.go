package rsync

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// A pass is what one rsync is to do.
type pass struct {
	args []string
	// list are the names it is given, each with suffix; nil: it is not given a list.
	list   []string
	suffix string
	// alone: what is below the names in list is not copied.
	alone bool
	// finds: it finds names in the source by itself, so OneFileSystem applies.
	finds bool
	// groups are the names in list by file: those of one are not to be divided between rsyncs.
	groups [][]string
	// divided: list is part of one that makes rsync abort. If this one does as well, it is divided again.
	divided bool
	// full: the whole source, with progress.
	full bool
	// bare: attributes are not looked at.
	bare bool
	// back: from the target to the source.
	back bool
	// without are names that it leaves alone on both sides, stronger than Filters; only are filters
	// weaker than them.
	without []string
	only    []string
	// room is nil as long as everything fits on the target.
	room *room
	// trial: it shows what the target keeps, and nothing if the target is full.
	trial bool
}

// roots returns the names that a pass was given, "." for everything.
func (p *pass) roots() []string {
	if p.list == nil {
		return []string{"."}
	}
	return p.list
}

// leave takes names out of what the pass was given.
func (p *pass) leave(names []string) {
	lost := map[string]bool{}
	for _, name := range names {
		lost[name] = true
	}
	p.list = except(p.list, lost)
	groups := p.groups
	p.groups = nil
	for _, names := range groups {
		p.groups = append(p.groups, except(names, lost))
	}
}

// leaveWhole takes the lost names out, and the groups that are whole.
func (p *pass) leaveWhole(lost map[string]bool) {
	groups := p.groups
	p.list, p.groups = []string{}, nil
	for _, names := range groups {
		if rest := except(names, lost); len(rest) < len(names) {
			p.list, p.groups = append(p.list, rest...), append(p.groups, rest)
		}
	}
	slices.Sort(p.list)
}

// except returns names but for the lost ones; nil stays nil.
func except(names []string, lost map[string]bool) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return lost[name] })
}

// arguments returns everything after the program's name.
func (e *Engine) arguments(p pass) []string {
	// -a brings -r, which p.args may take back. --8-bit-output keeps rsync from holding names
	// against a locale. --stderr=client, in the spelling that releases before 3.2.4 know, makes one process write
	// all messages, so that lines do not mix.
	args := []string{"-rlD"}
	if !p.bare {
		args = append([]string{"-a", "--numeric-ids"}, e.attributes()...)
	}
	args = append(args, "--8-bit-output", "--no-human-readable", "--no-msgs2stderr", "--out-format="+itemFormat, "--force")
	if p.alone {
		args = append(args, "--no-r", "--dirs")
		if remote(e.Target) {
			args = append(args, sendingFilters)
		}
	}
	args = append(args, p.args...)
	args = append(args, e.filters(p)...)
	if p.finds && e.OneFileSystem {
		args = append(args, "-x")
	}
	if e.DryRun {
		args = append(args, "-n")
	} else if p.finds && e.MaxDelete != nil {
		args = append(args, fmt.Sprintf("--max-delete=%d", e.MaxDelete()))
	}
	if e.Capabilities.Fsync && remote(e.Target) {
		args = append(args, "--fsync")
	}
	if p.list != nil {
		args = append(args, "--from0", "--files-from=-")
	}
	args = append(args, e.shell()...)
	args = append(args, e.Options...)
	from, to := withSlash(e.Source), withSlash(e.Target)
	if p.back {
		from, to = to, from
	}
	return append(args, "--", from, to)
}

// filters returns the filter rules of a pass, the strongest first. Even one that is given all its names
// needs them: a listed file may take the place of a directory that holds excluded names.
func (e *Engine) filters(p pass) []string {
	var args []string
	for _, name := range p.without {
		args = append(args, "--filter=- /"+pattern(name))
	}
	args = append(args, e.Filters...)
	return append(args, p.only...)
}

// sendingFilters has rsync send the filters to the one on another machine, which gets them only if it is to delete what
// the source does not have (exclude.c, receiver_wants_list). Without them it does not know what is to stay in a directory
// that goes or becomes something else. In a listed directory nothing is deleted for it, unless the name ends in a slash or
// is ".", nor in the parents of listed names: they are no FLAG_CONTENT_DIR (flist.c and generator.c, 3.2.0 to 3.5.0).
const sendingFilters = "--delete"

// attributes returns the arguments for what the target can keep.
func (e *Engine) attributes() []string {
	c := e.Capabilities
	var args []string
	for _, option := range [...]struct {
		wanted bool
		arg    string
	}{
		{c.Xattrs, "-X"},
		{c.ACLs, "-A"},
		{!c.Owners, "--no-o"},
		{!c.Owners, "--no-g"},
		{!c.Permissions, "--no-p"},
		{!c.Symlinks, "--no-l"},
		{!c.Specials, "--no-D"},
	} {
		if option.wanted {
			args = append(args, option.arg)
		}
	}
	if c.Xattrs {
		args = append(args, c.xattrFilters()...)
	}
	return append(args, modifyWindow(c.TimeGranularity))
}

// xattrFilters are rsync's own rules about the names of xattrs, which hold only where there are no others, and one more:
// xfs shows to root what it keeps of an ACL as an xattr as well. The receiver would remove that for not being among those of
// a file on another file system, and the ACL with it; or write a wrong one when a file changes in the middle of it,
// which makes xfs take the file for damaged. A receiver that is not root's goes by these rules as well, and gives all other
// xattrs that it gets a name of its own, user.rsync.*, which it does not without rules.
func (c Capabilities) xattrFilters() []string {
	if os.Geteuid() == 0 && !c.UserXattrs {
		return []string{"--filter=-x trusted.SGI_ACL_*", "--filter=-x system.*"}
	}
	return []string{"--filter=+x user.*", "--filter=-x *"}
}

// modifyWindow returns the argument by which times that the target keeps only to granularity count as
// equal. Without it rsync compares whole seconds and misses a rewrite within one; -1 compares
// nanoseconds (rsync 3.1.3).
func modifyWindow(granularity time.Duration) string {
	switch {
	case granularity <= time.Nanosecond:
		return "--modify-window=-1"
	case granularity <= time.Second:
		return "--modify-window=0"
	}
	return "--modify-window=1" // FAT's two seconds
}

// leavesOut reports whether rsync is told not to copy some types of files.
func (e *Engine) leavesOut() bool {
	return !e.Capabilities.Symlinks || !e.Capabilities.Specials || slices.ContainsFunc(e.Options, func(option string) bool {
		return slices.Contains([]string{"--no-l", "--no-links", "--no-D", "--no-devices", "--no-specials"}, option)
	})
}

// shell returns the argument by which ssh asks nothing: rsync runs in a process group of its own, in
// which a question on the terminal would stop it for ever. A remote shell that was chosen is left alone.
func (e *Engine) shell() []string {
	if os.Getenv("RSYNC_RSH") != "" || !overShell(e.Target) || slices.ContainsFunc(e.Options, choosesShell) {
		return nil
	}
	return []string{"--rsh=" + defaultShell}
}

const defaultShell = "ssh -o BatchMode=yes"

func choosesShell(option string) bool {
	return strings.HasPrefix(option, "--rsh") || strings.HasPrefix(option, "-e")
}

func (e *Engine) program() string { return cmp.Or(e.Program, "rsync") }

// withSlash makes rsync speak of what is in the directory. "host:" is the home directory there.
func withSlash(dir string) string {
	if strings.HasSuffix(dir, "/") || strings.HasSuffix(dir, ":") {
		return dir
	}
	return dir + "/"
}

// pattern returns a filter pattern that matches just this name. rsync takes a backslash literally unless
// the pattern holds one of the characters *?[ (rsync(1), PATTERN MATCHING RULES).
func pattern(name string) string {
	if !strings.ContainsAny(name, "*?[") {
		return name
	}
	return wildcards.Replace(name)
}

// wildcards escapes a name within a pattern that has wildcards of its own.
var wildcards = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// quote writes a command line so that a shell reads it back as these words.
func quote(words []string) string {
	var b strings.Builder
	for i, word := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(quoteWord(word))
	}
	return b.String()
}

func quoteWord(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=./:@,+%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
