package filter

import "strings"

// A byteSet is a set of bytes, one bit for each.
type byteSet [4]uint64

func (s *byteSet) has(c byte) bool { return s[c/64]&(1<<(c%64)) != 0 }

// add adds the bytes from low to high, both included; none if high is the lower one.
func (s *byteSet) add(low, high byte) {
	for c := int(low); c <= int(high); c++ {
		s[c/64] |= 1 << (c % 64)
	}
}

// parseClass reads a bracket expression from the byte after its "[" and returns the bytes it
// matches, among which a slash never is, and how long it is, the closing "]" included. ok is false
// if it does not end or names an unknown class.
func parseClass(p string) (set byteSet, n int, ok bool) {
	i := 0
	negated := p != "" && (p[0] == '!' || p[0] == '^')
	if negated {
		i++
	}
	rangeFrom := -1 // the byte before, if a range may begin with it
	for first := i; i < len(p); {
		name, named := className(p[i:])
		switch {
		case p[i] == ']' && i > first:
			set.finish(negated)
			return set, i + 1, true
		case p[i] == '-' && rangeFrom >= 0 && i+1 < len(p) && p[i+1] != ']':
			high, n := unescape(p[i+1:])
			set.add(byte(rangeFrom), high)
			rangeFrom = -1
			i += 1 + n
		case named:
			ranges := classRanges(name)
			if ranges == "" {
				return byteSet{}, 0, false
			}
			for ; ranges != ""; ranges = ranges[2:] {
				set.add(ranges[0], ranges[1])
			}
			rangeFrom = -1
			i += len("[::]") + len(name)
		default:
			c, n := unescape(p[i:])
			set.add(c, c)
			rangeFrom = int(c)
			i += n
		}
	}
	return byteSet{}, 0, false
}

// finish makes s the set of a whole bracket expression.
func (s *byteSet) finish(negated bool) {
	if negated {
		for i := range s {
			s[i] = ^s[i]
		}
	}
	s['/'/64] &^= 1 << ('/' % 64)
}

// unescape returns the byte that p begins with, and how many bytes stand for it. It makes nothing
// of a backslash at the end of p, after which no bracket can be closed.
func unescape(p string) (c byte, n int) {
	if p[0] == '\\' && len(p) > 1 {
		return p[1], 2
	}
	return p[0], 1
}

// className returns the name in a "[:name:]" that p begins with. What lacks the second colon is not
// one, but a "[" among other bytes.
func className(p string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(p, "[:")
	if !ok {
		return "", false
	}
	rest, _, _ = strings.Cut(rest, "]")
	return strings.CutSuffix(rest, ":")
}

// classRanges returns the bytes of a POSIX class in the C locale as pairs of a first and a last one,
// or nothing for an unknown name.
func classRanges(name string) string {
	switch name {
	case "alnum":
		return "09AZaz"
	case "alpha":
		return "AZaz"
	case "blank":
		return "\t\t  "
	case "cntrl":
		return "\x00\x1f\x7f\x7f"
	case "digit":
		return "09"
	case "graph":
		return "!~"
	case "lower":
		return "az"
	case "print":
		return " ~"
	case "punct":
		return "!/:@[`{~"
	case "space":
		return "\t\r  "
	case "upper":
		return "AZ"
	case "xdigit":
		return "09AFaf"
	}
	return ""
}
