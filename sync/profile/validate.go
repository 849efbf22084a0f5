package profile

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	humanize "github.com/dustin/go-humanize"

	"rsince/sync/filter"
)

// Validate says everything that is wrong with p, as Read does but without file and line, and makes
// Filter of Include and Exclude. It is for a profile that is not from a file.
func (p *Profile) Validate() error {
	return join("", p.check(nil))
}

// check makes Filter and adds to problems what is wrong with p. A key that has a problem already is
// not looked at again.
func (p *Profile) check(problems []*Error) []*Error {
	known := make(map[string]bool)
	for _, e := range problems {
		known[e.Key] = true
	}
	for _, e := range p.values() {
		if !known[e.Key] {
			problems = append(problems, e)
		}
	}
	if slices.ContainsFunc(problems, func(e *Error) bool {
		return slices.Contains([]string{"source", "target", "include", "exclude"}, e.Key)
	}) {
		return problems
	}
	rules, err := p.rules()
	if err != nil {
		return append(problems, problem("exclude", err.Error()))
	}
	p.Filter = rules
	return append(problems, p.nested()...)
}

// rules returns the patterns as rules; nil when there are none.
func (p *Profile) rules() (*filter.Rules, error) {
	if len(p.Include)+len(p.Exclude) == 0 {
		return nil, nil
	}
	return filter.Parse(p.Include, p.Exclude)
}

// values returns what is wrong with each key by itself.
func (p *Profile) values() []*Error {
	problems := p.options()
	for _, c := range []struct {
		key   string
		wrong string
	}{
		{"source", wrongSource(p.Source)},
		{"target", wrongTarget(p.Target)},
		{"include", wrongPatterns(p.Include)},
		{"exclude", wrongPatterns(p.Exclude)},
		{"engine", oneOf(p.Engine, []string{"auto", "rsync"}, "builtin")},
		{"stall", tooShort(p.Stall, time.Second)},
		{"full_every", tooShort(p.FullEvery, 0)},
		{"watch.backend", oneOf(p.Watch.Backend, []string{"auto", "fanotify", "inotify", "none"}, "")},
		{"snapshot.kind", oneOf(p.Snapshot.Kind, []string{"none"}, "lvm")},
		{"snapshot.size", wrongSize(p.Snapshot.Size)},
		{"logs.keep_runs", outside(p.Logs.KeepRuns, 1, math.MaxInt32)},
		{"priority.nice", outside(p.Priority.Nice, -20, 19)},
		{"priority.io", oneOf(p.Priority.IO, []string{"idle", "best-effort", "none"}, "")},
	} {
		if c.wrong != "" {
			problems = append(problems, problem(c.key, c.wrong))
		}
	}
	return problems
}

// problem returns an Error that ends with what the key allows.
func problem(name, wrong string) *Error {
	return &Error{Key: name, Wrong: wrong, Allowed: keyNamed(name).allowed}
}

func wrongSource(source string) string {
	if source == "" {
		return "is missing"
	}
	clean, err := cleanPath(source)
	if err != nil {
		return err.Error()
	}
	if clean != source {
		return fmt.Sprintf("%q is not clean", source)
	}
	return ""
}

// wrongTarget refuses what would be another target when it is read again, by rsync for instance.
func wrongTarget(target Target) string {
	if target == (Target{}) {
		return "is missing"
	}
	again, err := ParseTarget(target.String())
	if err != nil {
		return err.Error()
	}
	if again != target {
		return fmt.Sprintf("%q is not clean", target)
	}
	return ""
}

func wrongPatterns(patterns []string) string {
	if _, err := filter.Parse(nil, patterns); err != nil {
		return strings.TrimPrefix(err.Error(), "exclude ")
	}
	return ""
}

// options returns what is wrong with the options for rsync.
func (p *Profile) options() []*Error {
	var problems []*Error
	for _, option := range p.RsyncOptions {
		wrong := refuseOption(option)
		if wrong == "" && forDaemon(option) && p.Target.Path != "" && !p.Target.Daemon {
			wrong = fmt.Sprintf("%q works with an rsync daemon as target only", option)
		}
		if wrong != "" {
			problems = append(problems, problem("rsync_options", wrong))
		}
	}
	return problems
}

// nested returns how a source and a local target are inside each other, symlinks resolved.
func (p *Profile) nested() []*Error {
	if !p.Target.Local() {
		return nil
	}
	source, target := resolve(p.Source), resolve(p.Target.Path)
	if source == target {
		return []*Error{{Key: "target", Wrong: fmt.Sprintf("%q is the source", p.Target),
			Allowed: "allowed: another directory"}}
	}
	if _, ok := below(source, target); ok {
		return []*Error{{Key: "target", Wrong: fmt.Sprintf("%q holds the source %q", p.Target, p.Source),
			Allowed: "allowed: a directory outside the source"}}
	}
	if rel, ok := below(target, source); ok && !p.Filter.Excluded(rel, true) {
		return []*Error{{Key: "target", Wrong: fmt.Sprintf("%q is inside the source %q", p.Target, p.Source),
			Allowed: fmt.Sprintf("allowed: a directory outside the source, or exclude %q", pattern(rel))}}
	}
	return nil
}

// pattern returns the pattern that matches the directory rel, relative to the root, and no other.
func pattern(rel string) string { return filter.Literal(rel) + "/" }

// oneOf says why word is none of words; later is a word that a later version will know.
func oneOf(word string, words []string, later string) string {
	switch {
	case slices.Contains(words, word):
		return ""
	case word != "" && word == later:
		return fmt.Sprintf("%q is not available in this version", word)
	}
	return fmt.Sprintf("%q is not known", word)
}

func tooShort(d, least time.Duration) string {
	if d < least || d > 0 && d < time.Second {
		return fmt.Sprintf("%s is too short", d)
	}
	return ""
}

func outside(n, low, high int) string {
	if n < low || n > high {
		return fmt.Sprintf("%d is out of range", n)
	}
	return ""
}

// wrongSize says why s is neither a percentage nor a size.
func wrongSize(s string) string {
	if _, ok := strings.CutSuffix(s, "%"); ok {
		if limit, err := ParseLimit(s); err != nil || limit == Percent(0) {
			return fmt.Sprintf("%q is not a percentage from 1 to 100", s)
		}
		return ""
	}
	size, err := humanize.ParseBytes(s)
	if err != nil || size == 0 || strings.Trim(s[len(s)-1:], "0123456789.") == "" {
		return fmt.Sprintf("%q is not a size with its unit", s)
	}
	return ""
}
