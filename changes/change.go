// Package changes keeps, for every profile, a durable list of what was changed below its source and
// is not yet safely copied.
//
//	kernel events ─▶ Backend ─▶ Recorder (Journal) ─▶ segments on disk ─▶ Cut ─▶ Batch
//
// A Backend (fanotify, inotify) hears from the kernel and tells a Recorder. The Journal is the
// Recorder that lasts: it merges what it is told in memory and appends it to a segment on disk. A
// run cuts the journal, which closes the segment under a batch id, and acknowledges the batch when
// its copy is durable; only then do the closed segments go away.
package changes

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// A Kind says what of a path is in doubt. A later Kind includes the earlier ones, except that
// Content and Gone are the same doubt seen at two moments: the newer word holds.
type Kind uint8

const (
	// Attributes: owner, mode, times or xattrs changed; the content is what it was.
	Attributes Kind = iota + 1
	// Content: the name was created, written or renamed to, so its content is unknown. Of a
	// directory it says that the directory itself is new, not what is in it.
	Content
	// Gone: the name was removed. It may have come back since.
	Gone
	// Directory: every name directly in this directory is in doubt, contents included.
	Directory
	// Subtree: the name and everything below it is in doubt, contents included.
	Subtree
)

var kindNames = [...]string{Attributes: "attributes", Content: "content", Gone: "gone", Directory: "directory", Subtree: "subtree"}

func (k Kind) String() string {
	if k == 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// merge returns the doubt that remains when a path in doubt k is then reported as next.
func (k Kind) merge(next Kind) Kind {
	switch {
	case k == Gone && next == Attributes:
		return Content
	case k == Gone && next == Content, k == Content && next == Gone:
		return next
	default:
		return max(k, next)
	}
}

// plain reports whether k concerns one name only.
func (k Kind) plain() bool { return k < Directory }

// A Change is one entry of a journal: a path, or a file known only by its handle.
type Change struct {
	// Path is relative to the source, without a leading or trailing slash: any bytes but NUL.
	// "." is the source itself. It is empty when only Handle is known.
	Path string
	// Handle identifies a regular file that was written through a name that does not lead to it:
	// its names, if it has any, must be looked for.
	Handle Handle
	Kind   Kind
	Since  time.Time // when it was first reported after it was last safely copied
	// Attempts and Error tell of runs that tried to copy this path and could not.
	Attempts int
	Error    string
	// Fleeting says that the name led meanwhile to a file that it no longer leads to: it was gone after its content
	// was in doubt.
	Fleeting bool
	// RenamedTo is the name, in the same source, that a name that is gone was last seen to become. It
	// is told where the backend knows, and not kept for ever: good for counting, not for more.
	RenamedTo string
}

// history calls tell with the kinds by which a change comes to be what it is, the oldest first.
func (c Change) history(tell func(Kind)) {
	if c.Fleeting {
		tell(Content)
		tell(Gone)
	}
	tell(c.Kind)
}

// A Gap is a stretch of time in which changes of the source may have been missed.
type Gap struct {
	Reason string
	// Subtree is the part of the source concerned, as a Change's Path; "." is all of it.
	Subtree string
	// Since is when the gap began; the zero time means that nothing is known from before.
	Since time.Time
	Until time.Time
	// Others is how many more directories are concerned for the same reason, each a gap of its own.
	Others int
	// Told: a person was told of it before, or is told with another gap. Like Others it is not kept on disk.
	Told bool
}

// String tells a person what may be missing and why.
func (g Gap) String() string {
	if g.Subtree == "." {
		return "changes may have been missed: " + g.Reason
	}
	return fmt.Sprintf("changes in %s may have been missed: %s", g.place(), g.Reason)
}

// Brief is String for where it is clear that changes may have been missed.
func (g Gap) Brief() string {
	if g.Subtree == "." {
		return g.Reason
	}
	return fmt.Sprintf("in %s: %s", g.place(), g.Reason)
}

func (g Gap) place() string {
	switch g.Others {
	case 0:
		return strconv.Quote(g.Subtree)
	case 1:
		return strconv.Quote(g.Subtree) + " and 1 other directory"
	}
	return fmt.Sprintf("%q and %d other directories", g.Subtree, g.Others)
}

// Together returns for a person one gap for all that have a reason in common: the first, with the number
// of Others. Gaps of the whole source stay apart from those of its parts.
func Together(gaps []Gap) []Gap {
	var all []Gap
	for _, g := range gaps {
		i := slices.IndexFunc(all, func(o Gap) bool { return o.Reason == g.Reason && (o.Subtree == ".") == (g.Subtree == ".") })
		switch {
		case i < 0:
			g.Others = 0
			all = append(all, g)
		case g.Subtree != all[i].Subtree:
			all[i].Others++
		}
	}
	return all
}
