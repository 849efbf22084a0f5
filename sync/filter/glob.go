package filter

import "strings"

// A glob matches a whole text: prefix, then middle, then suffix. Most patterns are decided by
// comparing the two strings.
type glob struct {
	prefix, suffix string
	middle         []token // begins and ends with something else than a literal byte
}

// A token matches a part of a text.
type token struct {
	op   op
	char byte     // of a literal
	set  *byteSet // of a class
}

type op uint8

const (
	literal  op = iota // one byte, char
	anyChar            // one byte, not a slash
	class              // one byte of set
	star               // any number of bytes, none of them a slash
	deepStar           // any number of bytes
)

var slash = token{op: literal, char: '/'}

// tokenize splits a pattern into tokens. In one without wildcards every byte is literal, a
// backslash too. ok is false for a pattern that matches nothing: one with a malformed bracket, or
// with a backslash at its end.
func tokenize(pattern string, wild bool) (tokens []token, ok bool) {
	for i := 0; i < len(pattern); i++ {
		t := token{op: literal, char: pattern[i]}
		switch {
		case !wild:
		case t.char == '*':
			t = token{op: star}
			for i+1 < len(pattern) && pattern[i+1] == '*' {
				t.op = deepStar
				i++
			}
		case t.char == '?':
			t = token{op: anyChar}
		case t.char == '[':
			set, n, ok := parseClass(pattern[i+1:])
			if !ok {
				return nil, false
			}
			t = token{op: class, set: &set}
			i += n
		case t.char == '\\':
			i++
			if i == len(pattern) {
				return nil, false
			}
			t.char = pattern[i]
		}
		tokens = append(tokens, t)
	}
	return tokens, true
}

func newGlob(tokens []token) glob {
	first := 0
	for first < len(tokens) && tokens[first].op == literal {
		first++
	}
	last := len(tokens)
	for last > first && tokens[last-1].op == literal {
		last--
	}
	return glob{prefix: chars(tokens[:first]), middle: tokens[first:last], suffix: chars(tokens[last:])}
}

func chars(literals []token) string {
	b := make([]byte, len(literals))
	for i, t := range literals {
		b[i] = t.char
	}
	return string(b)
}

func (g *glob) matches(text string) bool {
	fixed := len(g.prefix) + len(g.suffix)
	if len(text) < fixed || !strings.HasPrefix(text, g.prefix) || !strings.HasSuffix(text, g.suffix) {
		return false
	}
	return matchTokens(g.middle, text[len(g.prefix):len(text)-len(g.suffix)])
}

// matchTokens reports whether the tokens match the whole text. Its time is at most proportional to
// the length of the text times the number of tokens.
//
// After a mismatch only the last star has to take one byte more: an earlier one taking more could
// only move what follows it to the right, in which case the last star has less to choose from. Only
// when that one is stopped by a slash is the last deepStar asked; stars before it are done with.
func matchTokens(tokens []token, text string) bool {
	const none = -1
	var (
		t, i      int    // the token and the byte to be compared next
		afterStar = none // the token after the last star since the last deepStar
		starEnd   int    // where that star's text ends at present
		firstStar int    // where the first star since the last deepStar begins
		afterDeep = none // the token after the last deepStar
		deepEnd   int    // where that one's text ends at present
	)
	for t < len(tokens) || i < len(text) {
		switch {
		case t < len(tokens) && tokens[t].op == deepStar:
			t++
			afterDeep, deepEnd, afterStar = t, i, none
		case t < len(tokens) && tokens[t].op == star:
			t++
			if afterStar == none {
				firstStar = i
			}
			afterStar, starEnd = t, i
		case t < len(tokens) && i < len(text) && tokens[t].matches(text[i]):
			t++
			i++
		case afterStar != none && starEnd == len(text):
			return false
		case afterStar != none && text[starEnd] != '/':
			starEnd++
			t, i = afterStar, starEnd
		case afterDeep != none && deepEnd < len(text):
			deepEnd++
			if afterStar != none {
				// Wherever before the next slash the first star began, the result would be the
				// same: let it begin after that.
				deepEnd += strings.IndexByte(text[firstStar:], '/')
			}
			t, i, afterStar = afterDeep, deepEnd, none
		default:
			return false
		}
	}
	return true
}

// matches reports whether a token that stands for one byte matches c.
func (t *token) matches(c byte) bool {
	switch t.op {
	case literal:
		return c == t.char
	case anyChar:
		return c != '/'
	default:
		return t.set.has(c)
	}
}
