package filter

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var seed = flag.Uint64("seed", 1, "for the random trees and patterns of the oracle test")

// TestOracle compares random pattern lists with what the real rsync makes of them, as Args gives
// them to it, in three ways: a walk of the tree; a list of all names, of which rsync does not check
// the parents; and what --delete spares on a receiver that gets the rules over the wire.
func TestOracle(t *testing.T) {
	o := newOracle(t, rand.New(rand.NewPCG(*seed, 0)))
	lists := 1500
	if testing.Short() {
		lists = 200
	}
	telling := o.compareAll(t, lists, func(i int) *Rules {
		return randomRules(rand.New(rand.NewPCG(*seed, uint64(i+1))), o.entries)
	})
	t.Logf("seed %d: %d names; %d of %d lists exclude some and not all", *seed, len(o.entries), telling, lists)
	if !t.Failed() && telling < lists/3 {
		t.Error("too few lists tell anything")
	}
}

// TestOracleTable does the same for every pattern of the table, as include and exclude.
func TestOracleTable(t *testing.T) {
	o := newOracle(t, rand.New(rand.NewPCG(*seed, 0)))
	var lists []*Rules
	for _, test := range patterns {
		exclude, include := mustParse(t, nil, []string{test.pattern}), mustParse(t, []string{test.pattern}, []string{"[a-m]*"})
		lists = append(lists, exclude, include)
	}
	o.compareAll(t, len(lists), func(i int) *Rules { return lists[i] })
}

// TestOracleWords has patterns that rsync would take for something else if they came as --exclude,
// or with white space that a careless reader would trim.
func TestOracleWords(t *testing.T) {
	words := []string{
		"!", "- x", "+ x", "-", "+", "- ", "-x", ". file", ": file", ":C", "-C", "merge x", "exclude x", "clear", "_x", ",x", "-,x", "- - x",
		" lead", "trail ", "  ", "\ttab", "tab\t", " ", "#x", ";x", "'q'", `"q"`, "$HOME", "~", "--", "--delete", "\xff", "\x7f\x01", "x",
	}
	o := oracle{root: t.TempDir(), empty: t.TempDir(), rsh: rsh(t)}
	for _, word := range words {
		o.entries = append(o.entries, entry{path: word})
		if err := os.WriteFile(filepath.Join(o.root, word), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var lists []*Rules
	for i, word := range words {
		exclude, literal := mustParse(t, nil, []string{word}), mustParse(t, nil, []string{Literal(word)})
		include := mustParse(t, []string{word, words[(i+1)%len(words)]}, []string{"*"})
		lists = append(lists, exclude, literal, include)
	}
	// Three times each, that is, in every way.
	o.compareAll(t, 3*len(lists), func(i int) *Rules { return lists[i/3] })
}

// TestOracleShields puts a file in the place of every directory that is excluded as a directory only: rsync would
// delete nothing below them.
func TestOracleShields(t *testing.T) {
	o := newOracle(t, rand.New(rand.NewPCG(*seed, 0)))
	shielded := 0
	for i := range 40 {
		rules := randomRules(rand.New(rand.NewPCG(*seed, uint64(i+1))), o.entries)
		for i := range rules.rules {
			rules.rules[i] = dirOnly(rules.rules[i])
		}
		rules.rules = slices.DeleteFunc(rules.rules, func(r rule) bool { return r.include })
		source := t.TempDir()
		var replaced []string
		for _, e := range o.entries {
			if !e.dir || !rules.Match(e.path, true) || rules.Excluded(e.path, false) {
				continue
			}
			if err := os.MkdirAll(filepath.Join(source, filepath.Dir(e.path)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(source, e.path), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			replaced = append(replaced, e.path)
		}
		args := append([]string{"-rlDn", "--8-bit-output", "--out-format=%n", "--delete", "--rsh=" + o.rsh}, rules.Args()...)
		out, _ := exec.Command("rsync", append(args, source+"/", "host:"+o.root+"/")...).Output() // "could not make way" ends with 23
		for line := range strings.Lines(string(out)) {
			path, deleted := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "deleting ")
			for _, dir := range replaced {
				if deleted && strings.HasPrefix(path, dir+"/") {
					t.Errorf("seed %d: %q: %q was deleted", *seed, rules.Args(), path)
				}
			}
		}
		shielded += len(replaced)
	}
	if shielded == 0 {
		t.Error("nothing was to be shielded")
	}
}

// dirOnly is the rule for directories only.
func dirOnly(r rule) rule {
	only, err := newRule(strings.TrimSuffix(r.pattern, "/") + "/")
	if err != nil {
		return r
	}
	return only
}

// TestLiteralNewline gives rsync the one kind of literal pattern that Parse refuses.
func TestLiteralNewline(t *testing.T) {
	o := oracle{root: t.TempDir(), empty: t.TempDir(), rsh: rsh(t)}
	for _, name := range []string{"n\nl", "n*\nl", "nx\nl"} {
		if err := os.WriteFile(filepath.Join(o.root, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-rn", "--delete", "--8-bit-output", "--out-format=%n", "--rsh=" + o.rsh, o.empty + "/", "host:" + o.root + "/"}
	deleted, err := run(append(args, "--filter=- "+Literal("n\nl"), "--filter=- "+Literal("n*\nl")), "")
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(deleted, map[entry]bool{{path: "nx\nl"}: true}) {
		t.Errorf("rsync would delete %v", deleted)
	}
}

type oracle struct {
	root, empty, rsh string // directories, and a program that stands in for ssh
	entries          []entry
}

type entry struct {
	path string
	dir  bool
}

func newOracle(t *testing.T, rng *rand.Rand) *oracle {
	o := &oracle{root: t.TempDir(), empty: t.TempDir(), rsh: rsh(t)}
	o.grow(t, rng, "", 0)
	return o
}

// rsh skips the test if there is no rsync, and returns a remote shell that stays on this machine.
func rsh(t *testing.T) string {
	if _, err := exec.LookPath("rsync"); err != nil {
		t.Skip("no rsync to compare with: ", err)
	}
	path := filepath.Join(t.TempDir(), "rsh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nshift\nexec \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// grow fills the directory dir with entries of all kinds that need no privilege.
func (o *oracle) grow(t *testing.T, rng *rand.Rand, dir string, depth int) {
	for range 8 - depth {
		e := entry{path: filepath.Join(dir, randomName(rng))}
		full := filepath.Join(o.root, e.path)
		if _, err := os.Lstat(full); err == nil {
			continue
		}
		var err error
		switch kind := rng.IntN(10); {
		case kind < 6-depth && depth < 5:
			e.dir = true
			err = os.Mkdir(full, 0o700)
		case kind == 8:
			err = os.Symlink("../a", full)
		case kind == 9:
			err = syscall.Mkfifo(full, 0o600)
		default:
			err = os.WriteFile(full, nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		o.entries = append(o.entries, e)
		if e.dir {
			o.grow(t, rng, e.path, depth+1)
		}
	}
}

var (
	words = []string{"a", "b", "c", "ab", "foo", "bar", "cache", "x.o", "x.tmp", ".a", "keep", "A", "-", "*", "**", "[a]", `a\b`, `\*`}
	soup  = []string{"a", "b", "A", "0", "*", "?", "[", "]", `\`, " ", "-", "!", "+", "^", "#", ".x", ":", "\n", "\t", "\xff", "é", "~"}
)

func pick(rng *rand.Rand, from []string) string { return from[rng.IntN(len(from))] }

func randomName(rng *rand.Rand) string {
	if rng.IntN(2) == 0 {
		return pick(rng, words)
	}
	name := ""
	for range 1 + rng.IntN(3) {
		name += pick(rng, soup)
	}
	return name
}

func randomRules(rng *rand.Rand, entries []entry) *Rules {
	list := func(n int) []string {
		var patterns []string
		for len(patterns) < n {
			pattern := randomPattern(rng, entries)
			if _, err := Parse(nil, []string{pattern}); err == nil {
				patterns = append(patterns, pattern)
			}
		}
		return patterns
	}
	rules, err := Parse(list(rng.IntN(3)), list(1+rng.IntN(4)))
	if err != nil {
		panic(err)
	}
	return rules
}

// randomPattern is mostly made from a path that exists, so that it has something to match, and
// sometimes from whatever a pattern may hold.
func randomPattern(rng *rand.Rand, entries []entry) string {
	pattern := ""
	if rng.IntN(4) == 0 {
		for range 1 + rng.IntN(6) {
			pattern += pick(rng, []string{"a", "b", "/", "*", "**", "?", "[", "]", "[a-c]", "[!a]", "[^b", `\`, "[[:alpha:]]", "[[:x", "-", "***", "x/", `\]`, `[\`, "foo"})
		}
		return pattern
	}
	names := strings.Split(entries[rng.IntN(len(entries))].path, "/")
	names = names[rng.IntN(len(names)):]
	for i, name := range names {
		switch rng.IntN(6) {
		case 0:
			names[i] = pick(rng, []string{"*", "**", "?", "*?", "?*"})
		case 1, 2:
			names[i] = blur(rng, name)
		}
	}
	return pick(rng, []string{"", "", "", "/", "/", "**/", "*/", "**", "a/"}) + strings.Join(names, "/") +
		pick(rng, []string{"", "", "", "", "/", "/***", "/**", "/*", "***", "**", "*"})
}

// blur replaces bytes of name by wildcards, most of which match them.
func blur(rng *rand.Rand, name string) string {
	pattern := ""
	for i := range len(name) {
		c := name[i : i+1]
		pattern += pick(rng, []string{
			c, c, c, `\` + c, `\` + c, "?", "*", "**", "[" + c + "]", "[!" + c + "]", "[" + c + "-~]", "[^a-c]", `[\` + c + "]", "[]a-]", "[[:punct:]a]", "[![:alnum:]]", "[ -~]",
		})
	}
	return pattern
}

// compareAll compares n lists of rules, several at a time since rsync mostly waits, and returns how
// many told something.
func (o *oracle) compareAll(t *testing.T, n int, rules func(i int) *Rules) int {
	var next, telling atomic.Int64
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for !t.Failed() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if o.compare(t, rules(i), i) {
					telling.Add(1)
				}
			}
		})
	}
	workers.Wait()
	return int(telling.Load())
}

// compare asks rsync in one of three ways what the rules exclude, and reports whether it is
// something, but not everything.
func (o *oracle) compare(t *testing.T, rules *Rules, way int) (telling bool) {
	excluded, asked := rules.Excluded, o.entries
	args := append([]string{"-rlDn", "--8-bit-output", "--out-format=%n"}, rules.Args()...)
	var list strings.Builder
	switch way % 3 {
	case 0:
		args = append(args, o.root+"/", o.empty+"/")
	case 1:
		excluded = rules.Match
		for _, e := range o.entries {
			list.WriteString("./" + e.path + "\x00")
		}
		args = append(args, "--no-recursive", "--no-implied-dirs", "--from0", "--files-from=-", o.root+"/", o.empty+"/")
	case 2:
		// A directory that is to go stays if something below it is spared: ask for files.
		asked = slices.DeleteFunc(slices.Clone(asked), func(e entry) bool { return e.dir })
		args = append(args, "--delete", "--rsh="+o.rsh, o.empty+"/", "host:"+o.root+"/")
	}
	taken, err := run(args, list.String())
	if err != nil {
		t.Errorf("seed %d: %v", *seed, err)
		return false
	}
	count := 0
	for _, e := range asked {
		got := excluded(e.path, e.dir)
		if got == taken[e] {
			t.Errorf("seed %d: %q: excluded is %v for %q (directory: %v); rsync does not agree", *seed, rules.Args(), got, e.path, e.dir)
		}
		if got {
			count++
		}
	}
	return count > 0 && count < len(asked)
}

// run returns the entries that rsync would transfer or delete.
func run(args []string, stdin string) (map[entry]bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "rsync", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("rsync %q: %w: %s", args, err, &stderr)
	}
	taken := map[entry]bool{}
	for line := range strings.Lines(string(out)) {
		path := octal.ReplaceAllStringFunc(strings.TrimSuffix(line, "\n"), func(escaped string) string {
			c, _ := strconv.ParseUint(escaped[2:], 8, 8)
			return string([]byte{byte(c)})
		})
		path = strings.TrimPrefix(path, "deleting ")
		path, dir := strings.CutSuffix(path, "/")
		taken[entry{path, dir}] = true
	}
	return taken, nil
}

// octal is how rsync prints what would disturb a terminal, such as a newline.
var octal = regexp.MustCompile(`\\#[0-7]{3}`)
