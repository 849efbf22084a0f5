// Package rsync copies with the rsync program: its command lines, its processes, what it says and
// how it ends.
//
//	lists of paths ─▶ Engine ─▶ rsync ─▶ target
//	                    ▲         │ stdout: items, progress, counts
//	                    └─────────┴ stderr: paths that failed ─▶ Result
//
// The caller decides what is to be copied and calls one method per pass; each pass is one rsync,
// run again without the paths that stood in its way where that helps. Paths are bytes, relative to
// the source, without a leading "./" and without a slash at the end.
package rsync

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"time"
)

// An Engine copies from a local directory to a target. Its passes may be called one after the
// other, not at the same time.
type Engine struct {
	// Source is an absolute, clean path of a directory.
	Source string
	// Target is a directory as rsync takes it: /path, host:path, user@host:/path,
	// rsync://host/module/path.
	Target string
	// Held is a path that leads to Source whatever Source itself leads to by now, for rsync to take; see the function of this
	// name. Empty: it takes Source.
	Held string
	// Met is called right before each rsync, and its error ends the pass; nil: nothing.
	Met func() error
	// MaxDelete returns how many names the next rsync that finds names by itself may delete; it ends with
	// ErrTooManyDeletions when there are more. nil: any number. A dry run is not limited.
	MaxDelete func() int
	// Filters are complete arguments such as "--filter=- *.tmp". They apply to names that rsync finds
	// by itself on either side, also on another machine; that no listed path is excluded is for the caller to see to.
	Filters []string
	// OneFileSystem keeps passes that find names by themselves on the file system of what is listed.
	OneFileSystem bool
	// Options are added to every command line.
	Options []string
	// Capabilities are what Probe found out about Target.
	Capabilities Capabilities
	// DryRun changes nothing on the target and counts what would be done.
	DryRun bool
	// Stall is how long an rsync may be without progress before it is ended; zero: for ever.
	Stall time.Duration
	// Nice is the least niceness that rsync gets.
	Nice int
	// IO is the I/O scheduling class: "idle", "best-effort", "none" or empty for the one of this process.
	IO string
	// Inherit are files that stay open in every rsync, such as a lock on the target. (ssh closes them.)
	Inherit []*os.File
	// Log gets every command line, fit for pasting into a shell, and what rsync said; nil: nothing.
	Log io.Writer
	// Progress is called from another goroutine, at most a few times a second; nil: not at all.
	Progress func(Progress)
	// Items is called from another goroutine for every change of the target; nil: not at all.
	Items func(Item)
	// Program is the rsync to run; empty: "rsync".
	Program string

	finishing bool // see finish
}

// Progress says how far a pass is.
type Progress struct {
	Paths   int64   // names that were created, updated or deleted so far
	Bytes   int64   // bytes of file data so far
	Percent int     // of the bytes of a full pass as far as it knows them; otherwise -1
	Rate    float64 // bytes a second since the pass began
}

// Paths copies the listed names and nothing below them. With unknownContent they are also copied
// when size and time agree with the target's, because a change can hide behind that.
func (e *Engine) Paths(ctx context.Context, paths []string, unknownContent bool) (Result, error) {
	named := except(paths, map[string]bool{".": true})
	total, err := e.runList(ctx, pass{args: ignoring(unknownContent), alone: true}, named)
	if err != nil || len(named) == len(paths) {
		return total, err
	}
	res, err := e.root(ctx)
	total.Add(res)
	return total, err
}

// root gives the target the attributes of the source itself. In a list rsync takes "." for what is in it, with "--dirs"
// for the names directly in it; here a filter hides those on both sides.
func (e *Engine) root(ctx context.Context) (Result, error) {
	hiding := *e
	hiding.Filters = []string{"--filter=- *"}
	return hiding.runList(ctx, pass{alone: true}, []string{"."})
}

// Directories makes the direct entries of each listed directory what they are in the source:
// extraneous names are deleted with all that is below them, and with unknownContent files are copied
// whatever their size and time say. New directories arrive empty.
func (e *Engine) Directories(ctx context.Context, paths []string, unknownContent bool) (Result, error) {
	args := append([]string{"--no-r", "--dirs", "--delete"}, ignoring(unknownContent)...)
	return e.runList(ctx, pass{args: args, finds: true, suffix: "/"}, paths)
}

// ignoring gives the option to copy what looks equal, if that is wanted.
func ignoring(times bool) []string {
	if times {
		return []string{"-I"}
	}
	return nil
}

// Subtrees makes the listed directories and everything below them what they are in the source,
// whatever sizes and times say.
func (e *Engine) Subtrees(ctx context.Context, paths []string) (Result, error) {
	return e.runList(ctx, pass{args: []string{"-r", "--delete", "-I"}, finds: true}, paths)
}

// Alike makes the listed directories and everything below them what they are in the source, as far as sizes and times say.
func (e *Engine) Alike(ctx context.Context, paths []string) (Result, error) {
	return e.runList(ctx, pass{args: []string{"-r", "--delete"}, finds: true}, paths)
}

// Links copies files with several names and links the names on the target; unknownContent is as for
// Paths. Each group holds all names of one file. A group is never divided between two rsyncs, and one
// rsync gets at most linksPerRun names, because rsync -H can hang on a tree that changes meanwhile. A
// run that hangs or aborts makes its names failed paths, and the next ones are tried.
//
// Names that the target has on another file system than the one that came first are linked with each other.
//
// When the name under which rsync copies a file fails or vanishes, it passes over the others without a word. So a group
// with such a name is tried again without it, until the others have arrived, linked with each other, or too
// many have failed: then all have.
func (e *Engine) Links(ctx context.Context, groups [][]string, unknownContent bool) (Result, error) {
	var total Result
	args := ignoring(unknownContent)
	if e.Capabilities.Hardlinks {
		args = append(args, "-H")
	}
	for _, some := range gather(groups, linksPerRun) {
		res, err := e.runList(ctx, pass{args: args, alone: true, groups: some}, slices.Concat(some...))
		elsewhere := res.takeCrossing(some)
		total.Add(res)
		if err == nil && len(elsewhere) > 0 {
			res, err = e.Links(ctx, elsewhere, unknownContent)
			total.Add(res)
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Deletions deletes names that are gone from the source, directories with all that is below them
// but what Filters exclude. A name that has come back is copied instead.
func (e *Engine) Deletions(ctx context.Context, paths []string) (Result, error) {
	if !e.Capabilities.DeleteMissingArgs {
		return e.deleteByListing(ctx, paths)
	}
	args := []string{"--delete-missing-args", "-I"}
	return e.runList(ctx, pass{args: args, alone: true, finds: true}, paths)
}

// Full compares everything by size and time and, if extraneous names are to go, deletes what the
// source does not have. It does not preserve hard links; Links does.
func (e *Engine) Full(ctx context.Context, deleting bool) (Result, error) {
	args := []string{"-r", "--info=progress2,stats2"}
	switch {
	case deleting:
		args = append(args, "--delete")
	case remote(e.Target):
		args = append(args, sendingFilters, "--filter=P *")
	}
	return e.run(ctx, pass{args: args, finds: true, full: true})
}

// Extraneous counts and tells Items what Full would delete, and Alike in the listed directories, and changes nothing.
func (e *Engine) Extraneous(ctx context.Context, alike []string) (Result, error) {
	dry := e.deleting()
	res, err := dry.run(ctx, pass{args: extraneous, bare: true, finds: true, full: true})
	if err == nil {
		var more Result
		more, err = e.ExtraneousIn(ctx, alike)
		res.Add(more)
	}
	return Result{Deleted: res.Deleted, Kept: res.Kept}, err
}

// ExtraneousIn is Extraneous of Alike alone.
func (e *Engine) ExtraneousIn(ctx context.Context, alike []string) (Result, error) {
	res, err := e.deleting().runList(ctx, pass{args: extraneous, bare: true, finds: true}, alike)
	return Result{Deleted: res.Deleted, Kept: res.Kept}, err
}

// extraneous are the arguments of a pass that shows what is to be deleted. Files are not left out of the comparison: one
// may take the place of a directory on the target.
var extraneous = []string{"-r", "--delete", "--existing", "--size-only"}

// deleting is e without effect, which tells Items of deletions alone.
func (e *Engine) deleting() *Engine {
	dry := *e
	dry.DryRun = true
	dry.Items = func(item Item) {
		if item.Action == Delete && e.Items != nil {
			e.Items(item)
		}
	}
	return &dry
}

// linksPerRun is how many names of files with several links go into one rsync: enough that starting
// it costs little per name, few enough that one hang holds up little.
const linksPerRun = 500

// gather puts whole groups together that have at most limit names, or are one.
func gather(groups [][]string, limit int) [][][]string {
	var runs [][][]string
	var run [][]string
	names := 0
	for _, group := range groups {
		if names > 0 && names+len(group) > limit {
			runs, run, names = append(runs, run), nil, 0
		}
		run, names = append(run, group), names+len(group)
	}
	if names > 0 {
		runs = append(runs, run)
	}
	return runs
}

// runList runs p with the paths, if there are any, in order: rsync sends the parents of a listed name again
// whenever they are not those of the name before, and takes twice as long for a shuffled list.
func (e *Engine) runList(ctx context.Context, p pass, paths []string) (Result, error) {
	if len(paths) == 0 {
		return Result{}, nil
	}
	p.list = slices.Clone(paths)
	slices.Sort(p.list)
	p.list = slices.Compact(p.list)
	tooLong := slices.DeleteFunc(slices.Clone(p.list), func(path string) bool { return len(path) <= longestPath })
	var total Result
	total.fail(tooLong, "the path is too long for rsync")
	p.leave(tooLong)
	if len(p.list) == 0 {
		return total, nil
	}
	res, err := e.run(ctx, p)
	var broken *ExitError
	if errors.As(err, &broken) && broken.aborted() {
		res.Done = 0
		total.Add(res)
		res, err = e.isolate(ctx, p, broken)
	}
	total.Add(res)
	return total, err
}

// isolate runs p, which makes rsync abort, in ever smaller parts, until the names that do it are alone
// and failed. When it is not a few names that do it, rsync's error is returned.
func (e *Engine) isolate(ctx context.Context, p pass, broken *ExitError) (Result, error) {
	var total Result
	const limit = 50 // of aborted attempts: enough for one name in some billions, or for several
	parts := [][]string{p.list}
	for aborted := 0; len(parts) > 0; {
		list := parts[len(parts)-1]
		parts = parts[:len(parts)-1]
		if len(list) == 1 {
			total.fail(list, broken.Error())
			continue
		}
		for _, half := range [][]string{list[:len(list)/2], list[len(list)/2:]} {
			part := p
			part.list, part.divided = half, true
			res, err := e.run(ctx, part)
			if err != nil {
				res.Done = 0
			}
			total.Add(res)
			if err == nil {
				continue
			}
			if aborted++; !errors.As(err, &broken) || !broken.aborted() || aborted == limit {
				return total, err
			}
			parts = append(parts, half)
		}
	}
	return total, nil
}

// longestPath leaves room in rsync's 4,096 bytes (MAXPATHLEN) for "./", "/", an end, and on the
// target for the six random characters and two dots of a temporary name.
const longestPath = 4096 - 2 - 1 - 1 - 8
