package profile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// An Error is one thing that is wrong in a profile.
type Error struct {
	File string // empty: not in a file
	// Line counts from 1, which also stands for what no line says, such as a missing key.
	Line int
	// Key is the dotted name of the key, such as "watch.backend"; empty where none could be read.
	Key     string
	Wrong   string // what is wrong
	Allowed string // what is allowed instead; empty when there is nothing to add
}

// Error returns FILE:LINE: KEY: what is wrong; what is allowed.
func (e *Error) Error() string {
	var text string
	if e.File != "" {
		text = fmt.Sprintf("%s:%d: ", e.File, e.Line)
	}
	if e.Key != "" {
		text += e.Key + ": "
	}
	text += e.Wrong
	if e.Allowed != "" {
		text += "; " + e.Allowed
	}
	return text
}

// join returns the problems of one file as an error, in the order of their lines.
func join(file string, problems []*Error) error {
	slices.SortStableFunc(problems, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
	errs := make([]error, len(problems))
	for i, problem := range problems {
		problem.File = file
		errs[i] = problem
	}
	return errors.Join(errs...)
}
