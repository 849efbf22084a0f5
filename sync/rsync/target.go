package rsync

import (
	"path"
	"strings"
)

// remote reports whether target is on another machine as rsync reads it: a colon before the first slash, or a URL.
func remote(target string) bool {
	return overDaemon(target) || overShell(target)
}

func overDaemon(target string) bool {
	host, _, ok := splitHost(target)
	return strings.HasPrefix(target, "rsync://") || ok && host != "" && strings.HasPrefix(target[len(host):], "::")
}

func overShell(target string) bool {
	_, _, ok := splitHost(target)
	return ok && !overDaemon(target)
}

// splitHost divides host:path; a colon after a slash belongs to a path. An IPv6 address is in brackets.
func splitHost(target string) (host, path string, ok bool) {
	start := 0
	if at := strings.IndexByte(target, '['); at >= 0 && !strings.Contains(target[:at], "/") {
		if end := strings.IndexByte(target, ']'); end > at {
			start = end
		}
	}
	colon := strings.IndexByte(target[start:], ':') + start
	if colon <= start && (start > 0 || colon < 0) || strings.Contains(target[start:max(colon, start)], "/") {
		return "", "", false
	}
	return target[:colon], target[colon+1:], colon > 0
}

// namesOnTarget returns what rsync puts before the names on the target in its messages, as far as it is known. A daemon
// leaves out where its module is, and says the module's name after them.
func namesOnTarget(target string) (before, module string) {
	if !remote(target) {
		return target, ""
	}
	_, rest, _ := splitHost(target)
	if url, ok := strings.CutPrefix(target, "rsync://"); ok {
		_, rest, _ = strings.Cut(url, "/")
	}
	if overDaemon(target) {
		module, rest, _ = strings.Cut(strings.TrimPrefix(rest, ":"), "/")
		return path.Clean("/" + rest), module
	}
	if strings.HasPrefix(rest, "/") {
		return rest, ""
	}
	return "", ""
}
