package rsync

import (
	"context"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
)

// rsync ends when a file does not fit on the target, and tries none of those after it. So it is run again for smaller
// ones, until what is left fits: without the larger names of its list, or, where it finds names by itself, with a
// limit. What is above that is listed then, so that each name that does not fit fails.

// room is what the attempts at a pass have found out about a target that is full.
type room struct {
	args    []string        // of the pass, without a limit
	limit   int64           // files of so many bytes are left out
	arrived map[string]bool // whatever the other attempts say of them
}

// What did not fit shows what is too large. After so many attempts a quarter of that is, each time, and in the last
// one every file that is not empty.
const fitsExactly, fits = 3, 25

// makeDo leaves out of p what is too large for the target, on which it ended with exit. It reports whether another attempt is worth it.
func (r *report) makeDo(p *pass, exit *ExitError, attempt int) bool {
	least, why := r.tooLarge()
	switch {
	case why == 0 || p.trial || attempt >= fits:
		return false
	case p.room == nil:
		p.room = &room{args: p.args, limit: math.MaxInt64, arrived: map[string]bool{}}
	case attempt > fitsExactly:
		p.room.limit = max(1, p.room.limit/4)
	}
	p.room.limit = min(p.room.limit, least)
	if attempt == fits-1 {
		p.room.limit = 1
	}
	for _, name := range r.arrivedBeforeEnd(exit.Code == codePartial) {
		p.room.arrived[name] = true
	}
	if !p.finds {
		return r.leaveLarge(p, least, why)
	}
	p.args = append(slices.Clone(p.room.args), fmt.Sprintf("--max-size=%d", p.room.limit-1))
	r.Failed = slices.DeleteFunc(r.Failed, func(f Failure) bool { return f.NoRoom() && r.sizeOf(f.Path) >= p.room.limit })
	return true
}

// tooLarge returns the size of the smallest file that did not fit, as far as it is known, and why; 0 if everything did.
func (r *report) tooLarge() (least int64, why syscall.Errno) {
	least = math.MaxInt64
	for _, f := range r.Failed {
		if !f.NoRoom() {
			continue
		}
		_, why, _ = cutErrno(f.Reason)
		if size := r.sizeOf(f.Path); size > 0 {
			least = min(least, size)
		}
	}
	return least, why
}

// arrivedBeforeEnd returns the files that the receiver had written when it came to one that it could not write. It takes
// them in the order in which the sender tells of them, and ends before one that was to be sent again. Where it came to none,
// since what did not fit was a directory, it has written all of them if rsync did all its work; else nobody knows.
func (r *report) arrivedBeforeEnd(done bool) []string {
	failed := r.missing(true)
	for _, name := range r.discarded {
		failed[name] = true
	}
	end := slices.IndexFunc(r.sent, func(name string) bool { return failed[name] })
	switch {
	case end >= 0:
		return r.sent[:end]
	case done:
		return r.sent
	}
	return nil
}

// leaveLarge takes what is too large out of p's list, and what has arrived; but of files with several names only whole ones,
// and those that have arrived are copied again. Directories that something has arrived in, or its temporary file, come into
// the list: rsync gives them back their times when it has done all else. It reports whether anything is left.
func (r *report) leaveLarge(p *pass, least int64, why syscall.Errno) bool {
	tooLarge := map[string]bool{}
	var arrived, large, dirs []string
	for _, f := range r.Failed {
		if tooLarge[f.Path] = f.NoRoom(); f.NoRoom() {
			dirs = append(dirs, path.Dir(f.Path))
		}
	}
	for _, name := range p.list {
		tooLarge[name] = tooLarge[name] || r.sizeOf(name) >= p.room.limit
	}
	for _, names := range p.groups {
		if slices.ContainsFunc(names, func(name string) bool { return tooLarge[name] }) {
			for _, name := range names {
				tooLarge[name] = true
			}
		}
	}
	for _, name := range p.list {
		switch {
		case p.groups == nil && p.room.arrived[name]:
			arrived = append(arrived, name)
			dirs = append(dirs, path.Dir(name))
		case tooLarge[name]:
			large = append(large, name)
		}
	}
	r.fail(large, fmt.Sprintf("not tried, since %d bytes did not fit: %v (%d)", least, why, why))
	p.leave(slices.Concat(arrived, large))
	if p.groups == nil {
		p.list = append(p.list, except(dirs, map[string]bool{".": true})...)
		slices.Sort(p.list)
		p.list = slices.Compact(p.list)
	}
	return len(p.list) > 0
}

// sizeOf returns the size of a regular file in the source; 0 of anything else.
func (r *report) sizeOf(name string) int64 {
	info, err := os.Lstat(filepath.Join(r.engine.Source, name))
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}

// copyLarge copies what a pass that finds names has left out: the names are what it would copy without a limit.
func (e *Engine) copyLarge(ctx context.Context, p pass) (Result, error) {
	var large []string
	room := p.room
	finder := *e
	finder.DryRun, finder.Progress = true, nil
	finder.Items = func(item Item) {
		if item.Action != Delete && !item.Dir && !room.arrived[item.Path] {
			large = append(large, item.Path)
		}
	}
	p.args, p.room = append(slices.Clone(room.args), fmt.Sprintf("--min-size=%d", room.limit)), nil
	if _, err := finder.run(ctx, p); err != nil {
		return Result{}, err
	}
	res, err := e.runList(ctx, pass{args: ignoring(slices.Contains(room.args, "-I")), alone: true}, large)
	res.Done = 0 // they are not the ones that were listed
	return res, err
}
