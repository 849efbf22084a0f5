package inotify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"rsince/changes"
)

// A shortage is what a person was told of the directories that the limit of watches keeps from being
// watched. The zero value: nothing, as there were none.
type shortage struct {
	limit       *LimitError
	directories int // without what is below them
	first       string
}

// tellShortage records gaps for the directories that the limit keeps from being watched.
func (w *watch) tellShortage(ctx context.Context, limited []string) {
	if len(limited) == 0 {
		w.short = shortage{}
		return
	}
	told := !w.measure(ctx, limited)
	if len(limited) > tooMany {
		w.rec.RecordGap(changes.Gap{
			Reason:  fmt.Sprintf("%d directories are not watched, the first is %q: %v", w.short.directories, w.short.first, w.short.limit),
			Subtree: ".", Since: w.sound, Told: told,
		})
		return
	}
	for i, path := range limited {
		w.rec.RecordGap(changes.Gap{
			Reason:  fmt.Sprintf("not watched: %v", w.short.limit),
			Subtree: path, Since: w.sound, Others: len(limited) - 1, Told: told || i > 0,
		})
	}
}

// measure brings what a person is told up to date, and reports whether that is news. It is when more than
// twice as many directories are concerned; in between it stays, since to count what is below them takes
// its time, and another number would make another gap of each.
func (w *watch) measure(ctx context.Context, limited []string) (news bool) {
	n, s := len(limited), w.short
	_, limit := watchLimit()
	worse := n > 2*s.directories || n > tooMany && s.directories <= tooMany
	if s.limit != nil && s.limit.Limit == limit && !worse {
		return false
	}
	w.short = shortage{limit: w.needs(ctx, limited), directories: n}
	if n > 0 {
		w.short.first = limited[0]
	}
	return true
}

// notWatched returns those of unwatched that the limit of watches is the reason for, or the others.
func (w *watch) notWatched(limited bool) (paths []string) {
	for path, err := range w.unwatched {
		if errors.Is(err, errLimit) == limited {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}
