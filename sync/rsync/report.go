package rsync

import (
	"fmt"
	"io"
	"os/exec"
	"path"
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
	names   *nameMap
	module  string // of a daemon; empty: none
	command string
	started time.Time

	mu          sync.Mutex // guards what follows and Result
	told        time.Time  // when Progress was last called
	percent     int
	sentBytes   int64    // as progress2 has it
	sent        []string // files whose content was sent, in order
	discarded   []string // files that are sent again after what arrived was wrong
	entries     int
	halfDone    []string // directories, see Engine.halfDone
	unread      []string // paths that the sender could not read, or that were gone
	cut         []string // directories whose contents were left out
	lastFailed  []string
	noDeletions bool
	limited     bool
	replaced    []Failure
	device      bool
	stray       bool
	vanished    bool
	errnos      map[syscall.Errno]int // of failures on the target
	unclear     bool                  // something failed, and what is not known
	began       bool                  // an item was told
	tail        []string
}

func newReport(e *Engine, p pass) *report {
	_, module := namesOnTarget(e.Target)
	return &report{
		engine:  e,
		pass:    p,
		names:   newNameMap(e, p),
		module:  module,
		started: time.Now(),
		percent: -1,
		errnos:  map[syscall.Errno]int{},
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
		if item.sends() {
			r.sent = append(r.sent, item.Path)
		}
		if r.engine.halfDone(item) {
			r.halfDone = append(r.halfDone, item.Path)
		}
		if r.engine.Items != nil {
			r.engine.Items(item)
		}
		r.progress()
		return
	}
	line = r.engine.unheld(line)
	if sent, percent, ok := parseProgress(line); ok {
		r.sentBytes, r.percent = sent, percent
		r.progress()
		return
	}
	r.log(line)
	if n, ok := parseEntries(line); ok {
		r.entries = n
		return
	}
	if m := parseMessage(line, r.module); m.kind != unknownMessage {
		r.take(m)
	}
}

// complaint takes a line of standard error.
func (r *report) complaint(line string) {
	line = r.engine.unheld(line)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log(line)
	const kept = 20
	r.tail = append(r.tail, unescape(line))
	r.tail = r.tail[max(0, len(r.tail)-kept):]
	r.take(parseMessage(line, r.module))
}

// take draws the consequences of a message.
func (r *report) take(m message) {
	switch m.kind {
	case failedMessage, unreadMessage:
		r.takeFailure(m)
	case typeMessage:
		if !r.engine.leavesOut() {
			r.charge(r.names.paths(m), m.text)
		}
	case vanishedMessage:
		r.vanished = true
		for _, path := range r.names.paths(m) {
			if path == "." {
				r.unclear = true
				continue
			}
			r.Vanished = append(r.Vanished, path)
			r.unread = append(r.unread, path)
		}
	case keptMessage:
		r.Kept = append(r.Kept, r.names.paths(m)...)
	case skippedBelow:
		r.cut = append(r.cut, r.lastFailed...)
	case limitMessage:
		r.limited = true
	case noDeletions:
		r.noDeletions = true
	case replacedMessage:
		for _, path := range r.names.paths(m) {
			r.replaced = append(r.replaced, Failure{Path: path, Reason: m.text})
		}
	case deviceMessage:
		r.device = true
	case strayMessage:
		paths := r.names.paths(m)
		r.stray = r.stray || len(paths) > 0
		r.unread = append(r.unread, paths...)
		r.charge(paths, m.text)
	case resentMessage:
		r.discarded = append(r.discarded, r.names.paths(m)...)
	case rereadMessage:
		for _, path := range r.names.paths(m) {
			if !slices.Contains(r.Vanished, path) {
				r.charge([]string{path}, m.text)
			}
		}
	case unknownMessage:
		r.unclear = r.unclear || strings.HasPrefix(m.text, "ERROR") || strings.Contains(m.text, "failed")
	}
}

func (r *report) takeFailure(m message) {
	paths := r.names.paths(m)
	switch {
	case len(paths) == 0:
		r.unclear = true
		return
	case m.kind == unreadMessage:
		for _, name := range paths {
			if len(name) > longestPath {
				name = path.Dir(name) // no filter reaches the name itself
			}
			r.unread = append(r.unread, name)
		}
	case m.errno == syscall.EROFS:
		if slices.ContainsFunc(paths, r.engine.onItsMount) {
			r.errnos[m.errno]++
		}
	case !Failure{Reason: m.text}.OfAttributes(): // ext4 says ENOSPC to a large attribute
		r.errnos[m.errno]++
	}
	r.Leftovers = r.Leftovers || strings.HasPrefix(m.text, "rename ")
	r.lastFailed = paths
	r.charge(paths, m.text)
}

// charge notes failures of paths; verdict leaves one for each path.
func (r *report) charge(paths []string, reason string) {
	for _, path := range paths {
		r.Failed = append(r.Failed, Failure{Path: path, Reason: reason})
	}
}

// progress tells Engine.Progress, at most five times a second.
func (r *report) progress() {
	if r.engine.Progress == nil || time.Since(r.told) < 200*time.Millisecond {
		return
	}
	r.told = time.Now()
	bytes := max(r.Bytes, r.sentBytes)
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
	switch err := err.(type) {
	case nil:
	case *stall:
		stuck = err
	case *ExitError:
		exit = err
	default: // also one of these together with a process that cannot be ended
		return false
	}
	switch {
	case r.device, stuck != nil && stuck.fifo: // rsync will see what it is now
		return attempt < races
	case err == nil && len(r.replaced) > 0: // another attempt finds what has taken the directory's place
		if attempt >= attempts {
			r.Failed = append(r.Failed, r.replaced...)
		}
		return attempt < attempts
	case r.stray:
		return r.leaveOut(p) && attempt < races
	case err == nil && p.groups != nil:
		p.leaveWhole(r.missing(false))
		return len(p.list) > 0 && attempt < races
	case exit != nil && exit.class() == ErrTargetFull:
		return r.makeDo(p, exit, attempt)
	case attempt >= attempts:
		return false
	case stuck != nil && stuck.path != "":
		paths := r.names.paths(message{kind: unreadMessage, names: []string{stuck.path}})
		r.unread = append(r.unread, paths...)
		r.fail(paths, stuck.Error())
		return len(paths) > 0 && r.leaveOut(p)
	case exit != nil:
		return exit.aborted() && !p.divided
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
	p.leave(r.unread)
	return p.list == nil || len(p.list) > 0
}

// verdict turns how the process ended, and what was said, into nil or an error. Listed names below
// a directory that was skipped become failed ones.
func (r *report) verdict(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, dir := range r.cut {
		for _, path := range r.pass.list {
			if path != dir && below(path, dir) {
				r.charge([]string{path}, fmt.Sprintf("left out because %s failed", quoteWord(dir)))
			}
		}
	}
	r.Failed = distinct(r.Failed)
	exit, ok := err.(*exec.ExitError)
	if !ok {
		return err
	}
	if r.limited { // whatever else there was, which has the code then
		return ErrTooManyDeletions
	}
	failed := &ExitError{
		Code:    exit.ExitCode(),
		Command: r.command,
		Stderr:  strings.Join(r.tail, "\n"),
		began:   r.began,
		local:   !remote(r.engine.Target),
	}
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		failed.Signal = s.Signal()
		r.Killed = r.Killed || failed.Signal == syscall.SIGKILL
	}
	r.Killed = r.Killed || failed.class() == ErrProtocol // one of its processes may have been
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
		return r.vanished
	case codePartial:
	default:
		return false
	}
	if e.Errno == syscall.EROFS {
		return false
	}
	return !r.unclear && len(r.Failed)+len(r.Vanished)+len(r.replaced) > 0
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
