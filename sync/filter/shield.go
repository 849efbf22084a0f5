package filter

import "strings"

// shields returns arguments that keep on the target what is below directories that only patterns for directories
// exclude. To rsync such a pattern says nothing of names below: when something else takes the directory's name in the
// source, it is not excluded, and rsync empties the directory to make way for it. Only the target is told, and first of
// all, since an include pattern may match below.
//
// A pattern from which an include pattern may take a directory back gets none: in that one, things are to be deleted.
func (r *Rules) shields() []string {
	var args []string
	for i := range r.rules {
		rule := &r.rules[i]
		if shield := rule.below(); rule.dirOnly && !rule.include && len(rule.globs) > 0 && len(shield) <= maxPattern && r.alone(rule) {
			args = append(args, "--filter=P "+shield)
		}
	}
	return args
}

// below returns the pattern that matches everything below the directories that the rule matches.
func (r *rule) below() string {
	body := strings.TrimSuffix(r.pattern, "/")
	switch {
	case strings.Trim(body, "*") == "" || strings.Trim(body, "*") == "/" && len(r.dirGlobs) > 0:
		return "*/**" // rsync puts a slash before what it compares with a pattern that begins with **
	case len(r.dirGlobs) > 0:
		return strings.TrimRight(body, "*") + "**"
	case !strings.ContainsAny(body, "*?["):
		body = escaper.Replace(body)
	}
	return body + "/**"
}

// alone reports whether no include pattern matches a name that the rule matches, as far as the last elements tell.
func (r *Rules) alone(excluding *rule) bool {
	for i := range r.rules {
		if including := &r.rules[i]; including.include && !apart(including.pattern, excluding.pattern) {
			return false
		}
	}
	return true
}

// apart reports whether two patterns differ in what they say of the last element of a name. Of one that may reach over
// slashes, or has a backslash, this does not tell.
func apart(a, b string) bool {
	a, b = strings.TrimSuffix(a, "/"), strings.TrimSuffix(b, "/")
	for _, pattern := range [...]string{a, b} {
		if strings.Contains(pattern, "**") || strings.ContainsAny(pattern, `[\`) {
			return false
		}
	}
	return misses(a, b) || misses(b, a)
}

// misses reports whether the last element of a pattern is a name, and not one that the other's matches.
func misses(pattern, other string) bool {
	name := pattern[strings.LastIndexByte(pattern, '/')+1:]
	if strings.ContainsAny(name, "*?") {
		return false
	}
	last, err := newRule(other[strings.LastIndexByte(other, '/')+1:])
	return err == nil && !last.matches(name, name, true)
}
