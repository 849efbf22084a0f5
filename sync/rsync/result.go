package rsync

import (
	"slices"
	"strings"
)

// A Result is what one or more passes did, or in a dry run would do.
type Result struct {
	Created, Updated, Deleted int
	// Bytes of file data that were sent.
	Bytes int64
	// Done counts the listed paths that arrived; of a full pass, all entries of the source.
	Done int
	// Failed are the paths that could not be copied or deleted. Some of them may not have been listed: names
	// below a listed directory, or a parent directory.
	Failed []Failure
	// Vanished are names that were gone from the source when rsync came to them.
	Vanished []string
	// Kept are directories that were to be deleted and stay because of excluded names in them.
	Kept []string
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

// Add adds what another pass did.
func (r *Result) Add(other Result) {
	r.Created += other.Created
	r.Updated += other.Updated
	r.Deleted += other.Deleted
	r.Bytes += other.Bytes
	r.Done += other.Done
	r.Failed = append(r.Failed, other.Failed...)
	r.Vanished = append(r.Vanished, other.Vanished...)
	r.Kept = append(r.Kept, other.Kept...)
}

// fail adds paths to the failed ones, except those that are there already.
func (r *Result) fail(paths []string, reason string) {
	for _, path := range paths {
		if !r.failed(path) {
			r.Failed = append(r.Failed, Failure{Path: path, Reason: reason})
		}
	}
}

func (r *Result) failed(path string) bool {
	return slices.ContainsFunc(r.Failed, func(f Failure) bool { return f.Path == path })
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
