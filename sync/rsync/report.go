package rsync

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A report gathers what one rsync says: items and progress from its standard output, complaints
// from its standard error, which come on two goroutines.
type report struct {
	Result
	engine  *Engine
	pass    pass
	names   nameMap
	command string
	started time.Time

	mu          sync.Mutex // guards what follows and Result
	told        time.Time  // when Progress was last called
	percent     int
	sent        int64 // as progress2 has it
	entries     int
	failures    map[string]bool
	unread      []string // paths that the sender could not read, or that were gone
	cut         []string // directories whose contents were left out
	lastFailed  string
	noDeletions bool
	device      bool
	stray       bool
	errnos      map[syscall.Errno]int // of failures on the target
	unclear     bool                  // something failed, and what is not known
	began       bool                  // an item was told
	tail        []string
}

func newReport(e *Engine, p pass) *report {
	return &report{
		engine:   e,
		pass:     p,
		names:    nameMap{source: e.Source, target: namesOnTarget(e.Target)},
		started:  time.Now(),
		percent:  -1,
		failures: map[string]bool{},
		errnos:   map[syscall.Errno]int{},
	}
}

// output takes a line of standard output.
func (r *report) output(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if item, ok := parseItem(line, r.engine.DryRun); ok {
		r.log(line)
		r.began = true
		r.count(item)
		if r.engine.Items != nil {
			r.engine.Items(item)
		}
		r.progress()
		return
	}
	if sent, percent, ok := parseProgress(line); ok {
		r.sent, r.percent = sent, percent
		r.progress()
		return
	}
	r.log(line)
	if n, ok := parseEntries(line); ok {
		r.entries = n
		return
	}
	if m := parseMessage(line); m.kind != unknownMessage {
		r.take(m)
	}
}

// complaint takes a line of standard error.
func (r *report) complaint(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log(line)
	const kept = 20
	r.tail = append(r.tail, unescape(line))
	r.tail = r.tail[max(0, len(r.tail)-kept):]
	r.take(parseMessage(line))
}

// take draws the consequences of a message.
func (r *report) take(m message) {
	switch m.kind {
	case failedMessage, unreadMessage:
		r.takeFailure(m)
	case typeMessage:
		if path, ok := r.names.rel(true, m.names); ok && !r.engine.leavesOut() {
			r.failure(path, m.text)
		}
	case vanishedMessage:
		path, ok := r.names.rel(true, m.names)
		switch {
		case path == ".":
			r.unclear = true
		case ok:
			r.Vanished = append(r.Vanished, path)
			r.unread = append(r.unread, path)
		}
	case keptMessage:
		if path, ok := r.names.rel(false, m.names); ok {
			r.Kept = append(r.Kept, path)
		}
	case skippedBelow:
		r.cut = append(r.cut, r.lastFailed)
	case noDeletions:
		r.noDeletions = true
	case deviceMessage:
		r.device = true
	case strayMessage:
		if path, ok := r.names.rel(true, m.names); ok {
			r.stray = true
			r.unread = append(r.unread, path)
			r.failure(path, m.text)
		}
	case unknownMessage:
		r.unclear = r.unclear || strings.HasPrefix(m.text, "ERROR") || strings.Contains(m.text, "failed")
	}
}

func (r *report) takeFailure(m message) {
	unread := m.kind == unreadMessage
	path, ok := r.names.rel(unread, m.names)
	switch dir, _ := split(path); {
	case !ok:
		r.unclear = true
		return
	case unread && len(path) > longestPath:
		r.unread = append(r.unread, dir) // no filter reaches the name itself
	case unread:
		r.unread = append(r.unread, path)
	case !strings.Contains(m.text, "xattr"): // ext4 says ENOSPC to a large attribute
		r.errnos[m.errno]++
	}
	r.lastFailed = path
	r.failure(path, m.text)
}

func (r *report) failure(path, reason string) {
	if !r.failures[path] {
		r.failures[path] = true
		r.Failed = append(r.Failed, Failure{Path: path, Reason: reason})
	}
}

// progress tells Engine.Progress, at most five times a second.
func (r *report) progress() {
	if r.engine.Progress == nil || time.Since(r.told) < 200*time.Millisecond {
		return
	}
	r.told = time.Now()
	bytes := max(r.Bytes, r.sent)
	r.engine.Progress(Progress{
		Paths:   int64(r.Created + r.Updated + r.Deleted),
		Bytes:   bytes,
		Percent: r.percent,
		Rate:    float64(bytes) / time.Since(r.started).Seconds(),
	})
}

func (r *report) log(line string) {
	if r.engine.Log != nil {
		// A log that cannot be written is its owner's to notice; the copy goes on.
		_, _ = io.WriteString(r.engine.Log, line+"\n")
	}
}

// again decides whether another attempt at p, which ended with err, can do more than this one, and leaves
// out of p what stood in its way. A live source can be unlucky more often than a broken one is mended.
func (r *report) again(p *pass, err error, attempt int) bool {
	const races, attempts = 30, 3
	var stuck *stall
	var exit *ExitError
	switch {
	case attempt >= races:
		return false
	case r.device, errors.As(err, &stuck) && stuck.fifo: // rsync will see what it is now
		return true
	case r.stray:
		return r.leaveOut(p)
	case attempt >= attempts:
		return false
	case stuck != nil && stuck.path != "":
		path, ok := r.names.rel(true, []string{stuck.path})
		if ok {
			r.unread = append(r.unread, path)
			r.failure(path, stuck.Error())
		}
		return ok && r.leaveOut(p)
	case errors.As(err, &exit):
		return exit.aborted()
	}
	return err == nil && r.noDeletions && r.leaveOut(p)
}

// leaveOut takes the names that the sender could not read out of p, so that another attempt can
// delete elsewhere, and reports whether there were any.
func (r *report) leaveOut(p *pass) bool {
	if len(r.unread) == 0 || slices.Contains(r.unread, ".") {
		return false
	}
	p.without = append(slices.Clone(p.without), r.unread...)
	gone := map[string]bool{}
	for _, path := range r.unread {
		gone[path] = true
	}
	if p.list != nil {
		p.list = slices.DeleteFunc(slices.Clone(p.list), func(path string) bool { return gone[path] })
	}
	return p.list == nil || len(p.list) > 0
}

// roots returns the names that a pass was given, "." for everything.
func (p pass) roots() []string {
	if p.list == nil {
		return []string{"."}
	}
	return p.list
}

// done counts the listed names that are neither failed nor gone, or the entries of a full pass.
func (r *report) done(p pass, total Result) int {
	if p.list == nil {
		return r.entries
	}
	missing := map[string]bool{}
	for _, f := range total.Failed {
		missing[f.Path] = true
	}
	for _, path := range total.Vanished {
		missing[path] = true
	}
	n := 0
	for _, path := range p.list {
		if !missing[path] {
			n++
		}
	}
	return n
}

// verdict turns how the process ended, and what was said, into nil or an error. Listed names below
// a directory that was skipped become failed ones.
func (r *report) verdict(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, dir := range r.cut {
		for _, path := range r.pass.list {
			if dir != "" && path != dir && below(path, dir) {
				r.failure(path, fmt.Sprintf("left out because %s failed", quoteWord(dir)))
			}
		}
	}
	exit, ok := err.(*exec.ExitError)
	if !ok {
		return err
	}
	failed := &ExitError{Code: exit.ExitCode(), Command: r.command, Stderr: strings.Join(r.tail, "\n"), began: r.began}
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		failed.Signal = s.Signal()
	}
	failed.Errno = r.cause(failed.Code)
	if r.harmless(failed) {
		return nil
	}
	return failed
}

// harmless reports whether all that went wrong is known by path.
func (r *report) harmless(e *ExitError) bool {
	switch e.Code {
	case codeVanished:
		return true
	case codePartial:
	default:
		return false
	}
	if e.Errno == syscall.EROFS || e.Errno == syscall.ENOSPC || e.Errno == syscall.EDQUOT {
		return false
	}
	return !r.unclear && len(r.Failed)+len(r.Vanished) > 0
}

// cause returns the errno that concerns the target as a whole, or of the only thing that was said.
func (r *report) cause(code int) syscall.Errno {
	for _, errno := range [...]syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS} {
		if r.errnos[errno] > 0 {
			return errno
		}
	}
	if code != codeSelect && code != codeFile {
		return 0
	}
	for _, line := range r.tail {
		if _, errno, ok := cutErrno(line); ok {
			return errno
		}
	}
	return 0
}

// merge adds another attempt at the same pass.
func (r *Result) merge(again Result) {
	known := map[string]bool{}
	for _, f := range r.Failed {
		known[f.Path] = true
	}
	failed := again.Failed
	again.Failed = nil
	r.Add(again)
	for _, f := range failed {
		if !known[f.Path] {
			r.Failed = append(r.Failed, f)
		}
	}
}
