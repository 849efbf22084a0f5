package profile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// decode puts text, a TOML file, into p and tells everything that is wrong, and the line of the
// target.
func (p *Profile) decode(text string) (targetLine int, problems []*Error) {
	found, err := settings(text, tables)
	if err != nil {
		return 0, []*Error{syntaxError(err)}
	}
	lines := make(map[string]int)
	for _, s := range found {
		lines[s.key] = s.line
		if wrong := p.set(s); wrong != nil {
			problems = append(problems, wrong)
		}
	}
	problems = p.check(problems)
	for _, wrong := range problems {
		wrong.Line = max(lines[wrong.Key], 1)
	}
	return lines["target"], problems
}

// set puts one setting into p.
func (p *Profile) set(s setting) *Error {
	k := keyNamed(s.key)
	switch {
	case slices.Contains(tables, s.key):
		return &Error{Key: s.key, Wrong: "is " + typeName(s.value), Allowed: "allowed: a table, [" + s.key + "]"}
	case k == nil:
		return &Error{Key: s.key, Wrong: "is not a key of a profile", Allowed: suggest(s.key)}
	}
	if err := k.decode(p, s.value); err != nil {
		return &Error{Key: s.key, Wrong: err.Error(), Allowed: k.allowed}
	}
	return nil
}

// syntaxError names the last key that the toml package had read where it stopped.
func syntaxError(err error) *Error {
	var at toml.ParseError
	if !errors.As(err, &at) {
		return &Error{Line: 1, Wrong: err.Error()}
	}
	return &Error{
		Line:    max(at.Position.Line, 1),
		Key:     at.LastKey,
		Wrong:   strings.TrimSuffix(at.Message, "."),
		Allowed: "allowed: TOML, see https://toml.io",
	}
}

// assign sets dst to a value of the same type.
func assign[T any](dst *T, value any) error {
	v, ok := value.(T)
	if !ok {
		return fmt.Errorf("is %s", typeName(value))
	}
	*dst = v
	return nil
}

// parse sets dst to what from makes of a string.
func parse[T any](dst *T, value any, from func(string) (T, error)) error {
	var text string
	if err := assign(&text, value); err != nil {
		return err
	}
	v, err := from(text)
	if err != nil {
		return err
	}
	*dst = v
	return nil
}

func assignInt(dst *int, value any) error {
	var n int64
	if err := assign(&n, value); err != nil {
		return err
	}
	if int64(int32(n)) != n {
		return fmt.Errorf("%d is out of range", n)
	}
	*dst = int(n)
	return nil
}

func assignList(dst *[]string, value any) error {
	var values []any
	if err := assign(&values, value); err != nil {
		return err
	}
	var list []string
	for _, value := range values {
		var text string
		if err := assign(&text, value); err != nil {
			return fmt.Errorf("holds %s", typeName(value))
		}
		list = append(list, text)
	}
	*dst = list
	return nil
}

func assignLimit(dst *Limit, value any) error {
	if _, ok := value.(int64); !ok {
		return parse(dst, value, ParseLimit)
	}
	var n int
	if err := assignInt(&n, value); err != nil {
		return err
	}
	if n < 0 {
		return fmt.Errorf("%d is negative", n)
	}
	*dst = Count(n)
	return nil
}

func parsePeriod(s string) (time.Duration, error) {
	if s == "never" {
		return 0, nil
	}
	d, err := ParseDuration(s)
	if err == nil && d == 0 {
		return 0, fmt.Errorf("%q would be all the time", s)
	}
	return d, err
}

// typeName names the TOML type of a value.
func typeName(value any) string {
	switch value.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case time.Time:
		return "a date or time"
	case []any:
		return "an array"
	case map[string]any:
		return "a table"
	}
	return "an array of tables"
}
