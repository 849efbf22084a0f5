package cli

import (
	"context"
	"errors"
	"slices"

	rsincesync "rsince/sync"

	"rsince/logs"
)

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2 // the command line or a profile is wrong
	exitPartial     = 3 // done, but some paths failed
	exitLocked      = 4 // another run holds the target's lock
	exitRefused     = 5 // by a guard, or source or target is not there
	exitInterrupted = 130
)

// severity says which code of several runs is the command's.
var severity = []int{exitInterrupted, exitFailed, exitUsage, exitRefused, exitLocked, exitPartial, exitDone}

func worst(codes ...int) int {
	for _, code := range severity {
		if slices.Contains(codes, code) {
			return code
		}
	}
	return exitDone
}

// usageError is a wrong command line or profile.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// reported is an exit code whose reasons have been printed.
type reported struct{ code int }

func (*reported) Error() string { return "already reported" }

func exitCode(err error) int {
	var (
		done    *reported
		usage   *usageError
		locked  *rsincesync.LockedError
		skipped *rsincesync.SkippedError
		refused *rsincesync.RefusedError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &done):
		return done.code
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &locked):
		return exitLocked
	case errors.As(err, &skipped), errors.As(err, &refused):
		return exitRefused
	}
	return exitFailed
}

// runCode is the exit code of a run.
func runCode(run logs.Run, err error) int {
	if err == nil && run.State == logs.Partial {
		return exitPartial
	}
	return exitCode(err)
}
