package rsync

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// Exit codes of rsync (rsync(1), EXIT VALUES).
const (
	codeUsage      = 1
	codeProtocol   = 2
	codeSelect     = 3
	codeRefused    = 4
	codeStart      = 5
	codeSocket     = 10
	codeFile       = 11
	codeStream     = 12
	codeCrashed    = 15
	codeTerminated = 16
	codePartial    = 23
	codeVanished   = 24
	codeTimeout    = 30
	codeConnection = 35
	codeCommand    = 127
	codeShell      = 255
)

// neverAnswered is in what rsync says when the conversation ended before the other side said anything.
const neverAnswered = "connection unexpectedly closed (0 bytes received so far)"

// What an ExitError can be, for errors.Is.
var (
	// ErrTargetFull: no space or quota left, and rsync does not say for what, or does not come to an end without it.
	ErrTargetFull = errors.New("the target is full")
	// ErrReadOnly: the target cannot be written to.
	ErrReadOnly = errors.New("the target is read-only")
	// ErrProtocol: the two rsyncs did not understand each other, or one of them died.
	ErrProtocol = errors.New("rsync's conversation with its other side broke off")
	// ErrUnreachable: the remote host, its shell or its daemon does not answer or lets us not in.
	ErrUnreachable = errors.New("the target cannot be reached")
	// ErrTooManyDeletions: there was more to be deleted than MaxDelete allows; the rest is still there.
	ErrTooManyDeletions = errors.New("more was to be deleted than is allowed")
	// ErrPartial: something failed, and rsync did not say what.
	ErrPartial = errors.New("something was not copied and rsync does not say what")
)

// An ExitError is an rsync that did not do its work.
type ExitError struct {
	Code    int            // -1 if it was ended by Signal
	Signal  syscall.Signal // 0: none
	Errno   syscall.Errno  // what the system said, if it is known
	Command string         // as pasted into a shell
	Stderr  string         // the last lines of what it said
	program string         // empty: rsync
	began   bool           // it has said of a path what it did
	local   bool           // the target is here
}

// declined reports whether the rsync here or there does not know, or does not allow, what it was asked for.
func (e *ExitError) declined() bool {
	return e.Code == codeUsage || e.Code == codeRefused ||
		strings.Contains(e.Stderr, "(code 1)") || strings.Contains(e.Stderr, "(code 4)")
}

// aborted reports whether both sides were at work when it broke off, or it crashed, for which one path can be the reason.
func (e *ExitError) aborted() bool { return (e.began || e.Signal != 0) && e.class() == ErrProtocol }

// brokeOff reports whether err is that of an rsync that hung or aborted, for which one path can be the reason, and
// nothing else: no process of it is left.
func brokeOff(err error) bool {
	switch err := err.(type) {
	case *stall:
		return true
	case *ExitError:
		return err.aborted()
	}
	return false
}

func (e *ExitError) Error() string {
	program := cmp.Or(e.program, "rsync")
	what := fmt.Sprintf("%s ended with code %d", program, e.Code)
	if e.Signal != 0 {
		what = fmt.Sprintf("%s was ended by signal %v", program, e.Signal)
	}
	if class := e.class(); class != nil {
		what = fmt.Sprintf("%v (%s)", class, what)
	}
	if line := e.line(); line != "" {
		what += ": " + line
	}
	return what
}

// Unwrap returns the sentinel of the class and the errno.
func (e *ExitError) Unwrap() []error {
	var errs []error
	if class := e.class(); class != nil {
		errs = append(errs, class)
	}
	if e.Errno != 0 {
		errs = append(errs, e.Errno)
	}
	return errs
}

func (e *ExitError) class() error {
	switch e.Errno {
	case syscall.ENOSPC, syscall.EDQUOT:
		return ErrTargetFull
	case syscall.EROFS:
		return ErrReadOnly
	}
	switch e.Signal {
	case syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGILL, syscall.SIGFPE, syscall.SIGABRT:
		return ErrProtocol
	}
	switch e.Code {
	case codePartial:
		return ErrPartial
	case codeStart, codeTimeout, codeConnection, codeCommand, codeShell:
		if !e.local {
			return ErrUnreachable
		}
	case codeSocket, codeStream:
		// Which code rsync ends with when the other side dies, or the remote shell fails, depends on what it notices first.
		if !e.local && (strings.Contains(e.Stderr, neverAnswered) || e.Code == codeSocket && !e.began) {
			return ErrUnreachable
		}
		return ErrProtocol
	case codeProtocol, codeCrashed, codeTerminated:
		return ErrProtocol
	}
	return nil
}

// line returns the most telling line of Stderr: the first one, as later ones follow from it.
func (e *ExitError) line() string {
	for line := range strings.SplitSeq(e.Stderr, "\n") {
		if line = strings.TrimPrefix(line, "rsync: "); line != "" {
			return line
		}
	}
	return ""
}
