package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// complain prints an error and what to do about it. Errors that were printed as they occurred only
// carry an exit code.
func (w *world) complain(err error) {
	var silent *reported
	if err == nil || errors.As(err, &silent) {
		return
	}
	w.complainOf("", err)
}

func (w *world) complainOf(about string, err error) {
	for _, line := range lines(err) {
		w.report(about, line)
	}
	w.advise(w.hint(err))
}

// report prints a message about a profile, or with an empty name about no particular one.
func (w *world) report(name, message string) {
	if name != "" {
		message = name + ": " + message
	}
	printLine(w.stderr, "rsince: %s", message)
}

// advise prints what to do, if there is anything to do.
func (w *world) advise(hint string) {
	if hint != "" {
		printLine(w.stderr, "hint: %s", hint)
	}
}

// lines gives each of the errors that were joined in err, with what was said about them all. A name with
// a newline in it does not make a line.
func lines(err error) []string {
	text := err.Error()
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		if joined := errors.Join(e.Unwrap()...); joined == nil || joined.Error() != text {
			break
		}
		var all []string
		for _, part := range e.Unwrap() {
			all = append(all, lines(part)...)
		}
		return slices.Compact(all)
	case interface{ Unwrap() error }:
		inner := e.Unwrap()
		if inner == nil || errors.Is(inner, context.Canceled) {
			break
		}
		before, ok := strings.CutSuffix(text, inner.Error())
		if !ok {
			break
		}
		all := lines(inner)
		for i := range all {
			all[i] = before + all[i]
		}
		return all
	}
	if errors.Is(err, context.Canceled) {
		return []string{"interrupted"}
	}
	return []string{text}
}
