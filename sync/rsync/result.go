package rsync

import (
	"slices"
	"strings"
	"syscall"
)

// A Result is what one or more passes did, or in a dry run would do.
type Result struct {
	Created, Updated, Deleted int
	// Bytes of file data that were sent.
	Bytes int64
	// Done counts the listed paths that arrived; of a full pass, all entries of the source.
	Done int
	// Failed are the paths that could not be copied or deleted, each once. Some of them may not have been listed:
	// names below a listed directory, or a parent directory.
	Failed []Failure
	// Vanished are names that were gone from the source when rsync came to them.
	Vanished []string
	// Kept are directories that were to be deleted and stay because of what is in them: excluded names, or ones that failed.
	Kept []string
	// Killed says that an rsync, or one of its processes, was ended by SIGKILL, or may have been: temporary files
	// (.name.XXXXXX) may be left in the directories that it wrote to. An orderly end removes them.
	Killed bool
	// Leftovers says that the same may be so beside names that failed: rsync could not rename its temporary file, and if the
	// directory does not allow that, it cannot remove it either.
	Leftovers bool
}

// A Failure is a path, relative to the source, and why it could not be brought over.
type Failure struct {
	Path   string
	Reason string
}

// OfAttributes reports whether rsync could not give the path its attributes, and did the rest.
func (f Failure) OfAttributes() bool {
	for _, form := range [...]string{"chown ", "chgrp ", "failed to set ", "rsync_xal_", "set_acl: "} {
		if strings.HasPrefix(f.Reason, form) {
			return true
		}
	}
	return false
}

// NoRoom reports whether the path did not fit on the target.
func (f Failure) NoRoom() bool { return f.full() && !f.OfAttributes() }

// full reports whether there was no room for the path, or for an attribute of it.
func (f Failure) full() bool {
	_, errno, _ := cutErrno(f.Reason)
	return errno == syscall.ENOSPC || errno == syscall.EDQUOT
}

// takeCrossing takes the names out of Failed that were to be linked to one on another file system, and gives them by file.
func (r *Result) takeCrossing(groups [][]string) (elsewhere [][]string) {
	crossing := map[string]bool{}
	for _, f := range r.Failed {
		_, errno, _ := cutErrno(f.Reason)
		crossing[f.Path] = errno == syscall.EXDEV && strings.HasPrefix(f.Reason, "link ")
	}
	taken := map[string]bool{}
	for _, names := range groups {
		some := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !crossing[name] })
		if len(some) == 0 || len(some) == len(names) { // the one that they were to be linked to is none of them
			continue
		}
		elsewhere = append(elsewhere, some)
		for _, name := range some {
			taken[name] = true
		}
	}
	r.Failed = slices.DeleteFunc(r.Failed, func(f Failure) bool { return taken[f.Path] })
	return elsewhere
}

// Add adds what another pass did. Where both have failures of a path, one stays, see distinct.
func (r *Result) Add(other Result) {
	r.Created += other.Created
	r.Updated += other.Updated
	r.Deleted += other.Deleted
	r.Bytes += other.Bytes
	r.Done += other.Done
	r.Failed = distinct(append(r.Failed, other.Failed...))
	r.Vanished = append(r.Vanished, other.Vanished...)
	r.Kept = append(r.Kept, other.Kept...)
	r.Killed = r.Killed || other.Killed
	r.Leftovers = r.Leftovers || other.Leftovers
}

// fail adds failures of paths.
func (r *Result) fail(paths []string, reason string) {
	for _, path := range paths {
		r.Failed = append(r.Failed, Failure{Path: path, Reason: reason})
	}
	r.Failed = distinct(r.Failed)
}

// distinct leaves one failure of each path: the first one, but one of attributes gives way to any other.
func distinct(failures []Failure) []Failure {
	at := map[string]int{}
	var kept []Failure
	for _, f := range failures {
		i, known := at[f.Path]
		switch {
		case !known:
			at[f.Path] = len(kept)
			kept = append(kept, f)
		case kept[i].OfAttributes() && !f.OfAttributes():
			kept[i] = f
		}
	}
	return kept
}

// share makes what failed of a file's attributes under one of its names a failure of all of them.
func (r *Result) share(groups [][]string) {
	reasons := map[string]string{}
	for _, f := range r.Failed {
		if f.OfAttributes() {
			reasons[f.Path] = f.Reason
		}
	}
	for _, names := range groups {
		i := slices.IndexFunc(names, func(name string) bool { return reasons[name] != "" })
		if i >= 0 {
			r.fail(names, reasons[names[i]])
		}
	}
}

// arrived counts the listed names that are neither failed nor gone.
func (r *Result) arrived(listed []string) int {
	missing, n := r.missing(true), 0
	for _, path := range listed {
		if !missing[path] {
			n++
		}
	}
	return n
}

// missing are the paths that failed or were gone, and with attributes also those of which only the attributes failed.
func (r *Result) missing(attributes bool) map[string]bool {
	missing := map[string]bool{}
	for _, f := range r.Failed {
		if attributes || !f.OfAttributes() {
			missing[f.Path] = true
		}
	}
	for _, path := range r.Vanished {
		missing[path] = true
	}
	return missing
}

// count adds one change of the target.
func (r *Result) count(item Item) {
	switch item.Action {
	case Create:
		r.Created++
	case Update:
		// The time of a directory changes with what is in it, which counts already.
		if item.Changes != ".d..t......" {
			r.Updated++
		}
	case Delete:
		r.Deleted++
	}
	r.Bytes += item.Bytes
}
