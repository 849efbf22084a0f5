package profile

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// A Target is a directory that is copied to. Targets are comparable.
type Target struct {
	// Host is as given to ssh, host or user@host, an IPv6 address without brackets; empty: this
	// machine.
	Host string
	// Daemon says that an rsync daemon is asked, not a shell.
	Daemon bool
	Port   int // of the daemon; 0: rsync's default
	// Path is absolute and clean; for a daemon it is module or module/path.
	Path string
}

const scheme = "rsync://"

// ParseTarget reads /path, host:/path, user@host:/path and rsync://[user@]host[:port]/module[/path].
// As for rsync, an IPv6 address is in brackets. A path on another machine has no wildcards.
func ParseTarget(s string) (Target, error) {
	before, after, colon := cutHost(s)
	switch {
	case strings.ContainsRune(s, 0):
		return Target{}, fmt.Errorf("%q holds a NUL byte", s)
	case len(s) >= len(scheme) && strings.EqualFold(s[:len(scheme)], scheme):
		return parseDaemon(s[len(scheme):])
	case !colon:
		path, err := cleanPath(s)
		return Target{Path: path}, err
	case strings.HasPrefix(after, "//"):
		return Target{}, fmt.Errorf("%q is a URL that rsync does not know", s)
	case strings.HasPrefix(after, ":"):
		return Target{}, fmt.Errorf("%q has two colons, a daemon is written as %s", s, scheme+before+"/module/path")
	case !strings.HasPrefix(after, "/"):
		return Target{}, fmt.Errorf("the path after %q depends on who logs in, it has to be absolute", before+":")
	}
	host, err := parseHost(before)
	if err != nil {
		return Target{}, err
	}
	path, err := remotePath(after)
	return Target{Host: host, Path: path}, err
}

// remotePath is cleanPath for another machine. There a shell or rsync expands wildcards, into other directories than
// the one that is looked at before, and an escaped one is taken literally by a shell alone: a daemon, and an rsync with
// --secluded-args, make the backslash part of a name that is not there yet (glob_expand in util1.c, rsync 3.5.0). A
// backslash by itself is lost where rsync does not quote it for the shell (before 3.2.4, and with --old-args).
func remotePath(s string) (string, error) {
	path, err := cleanPath(s)
	if at := strings.IndexAny(path, `*?[\`); err == nil && at >= 0 {
		return "", fmt.Errorf("%q holds a %q, which the rsync there would not take literally: give the directory another name", path, path[at:at+1])
	}
	return path, err
}

// cutHost divides s at the colon before the first slash that is not in brackets, if there is one.
func cutHost(s string) (host, rest string, ok bool) {
	brackets := false
	for i := range len(s) {
		switch {
		case s[i] == '[':
			brackets = true
		case s[i] == ']':
			brackets = false
		case s[i] == '/':
			return "", s, false
		case s[i] == ':' && !brackets:
			return s[:i], s[i+1:], true
		}
	}
	return "", s, false
}

func parseDaemon(s string) (Target, error) {
	authority, path, _ := strings.Cut(s, "/")
	hostPart, portPart, hasPort := cutHost(authority)
	if !hasPort {
		hostPart = authority
	}
	host, err := parseHost(hostPart)
	if err != nil {
		return Target{}, err
	}
	t := Target{Host: host, Daemon: true}
	if hasPort {
		port, err := strconv.ParseUint(portPart, 10, 16)
		if err != nil || port == 0 {
			return Target{}, fmt.Errorf("%q is not a port", portPart)
		}
		t.Port = int(port)
	}
	if path == "" || path[0] == '/' {
		return Target{}, fmt.Errorf("%q lacks the daemon's module", scheme+s)
	}
	absolute, err := remotePath("/" + path)
	if err != nil {
		return Target{}, err
	}
	if t.Path = absolute[1:]; t.Path == "" {
		return Target{}, fmt.Errorf("%q lacks the daemon's module", scheme+s)
	}
	return t, nil
}

// parseHost reads [user@]host and takes the brackets off an IPv6 address. A host or user that begins
// with "-" would be an option to ssh.
func parseHost(s string) (string, error) {
	user, host := splitUser(s)
	if strings.HasPrefix(user, "-") || strings.HasPrefix(host, "-") {
		return "", fmt.Errorf("%q begins with \"-\"", s)
	}
	bare, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		bare = strings.TrimSuffix(bare, "]")
		if addr, err := netip.ParseAddr(bare); err != nil || !addr.Is6() || host != "["+bare+"]" {
			return "", fmt.Errorf("%q is not an IPv6 address", host)
		}
	}
	if bare == "" || strings.HasPrefix(s, "@") {
		return "", errors.New("the name of the host is empty")
	}
	strange := func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`[]/\"'`, r) }
	if strings.ContainsFunc(user, strange) || strings.ContainsFunc(bare, strange) || strings.Contains(user, ":") {
		return "", fmt.Errorf("%q is not the name of a host", s)
	}
	if user != "" {
		return user + "@" + bare, nil
	}
	return bare, nil
}

// splitUser divides [user@]host. A user may hold an "@", a host may not.
func splitUser(s string) (user, host string) {
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		return s[:at], s[at+1:]
	}
	return "", s
}

// Local reports whether the target is on this machine.
func (t Target) Local() bool { return t.Host == "" }

// Parent is the directory that t lies in; ok is false of "/" and of a daemon's module.
func (t Target) Parent() (parent Target, ok bool) {
	parent = t
	parent.Path = path.Dir(t.Path)
	return parent, parent.Path != t.Path && parent.Path != "."
}

// String returns the form that rsync takes.
func (t Target) String() string {
	if t.Local() {
		return t.Path
	}
	user, host := splitUser(t.Host)
	if user != "" {
		user += "@"
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if !t.Daemon {
		return user + host + ":" + t.Path
	}
	if t.Port != 0 {
		host += ":" + strconv.Itoa(t.Port)
	}
	return scheme + user + host + "/" + t.Path
}

// within returns where t is relative to other, "." for other itself, and whether it is there, as far
// as this can be told from here: two names of one host are two hosts.
func (t Target) within(other Target) (rel string, ok bool) {
	if t.machine() != other.machine() {
		return "", false
	}
	if t.Local() {
		return below(resolve(t.Path), resolve(other.Path))
	}
	return below(t.Path, other.Path)
}

// machine names what gives the path of a target its meaning.
func (t Target) machine() string {
	_, host := splitUser(t.Host)
	host = strings.ToLower(host)
	if !t.Daemon {
		return host
	}
	port := t.Port
	if port == 0 {
		port = 873
	}
	return scheme + net.JoinHostPort(host, strconv.Itoa(port))
}
