package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

// A bench is what the groups share: the tree, and the rows they add.
type bench struct {
	dir     string
	program string // rsince
	rounds  int
	tree    *tree
	rows    []row
}

// A row holds one series against another.
type row struct {
	task              string
	measured, against *series
	of                func(reading) float64
	asked             limit
}

// A limit is what is asked of a row: that the value, in the row's own unit, and its ratio are at
// most this. 0 asks nothing.
type limit struct {
	value, ratio float64
}

func seconds(r reading) float64  { return r.seconds }
func resident(r reading) float64 { return r.resident }
func pending(r reading) float64  { return r.pending }

// A group is a part of the table that can be measured alone.
type group struct {
	name    string
	measure func(*bench, context.Context) error
}

func groups() []group {
	return []group{{"ready", (*bench).ready}, {"write", (*bench).write}, {"copy", (*bench).copy}, {"unwatched", (*bench).unwatched}}
}

func groupNames() []string {
	var names []string
	for _, g := range groups() {
		names = append(names, g.name)
	}
	return names
}

// files counts those of the tree.
func (b *bench) files() int { return len(b.tree.dirs) * filesPerDir }

// scaled is n, or the seventh of a small tree's files: in the large one 100,000 are a seventh.
func (b *bench) scaled(n int) int { return min(n, b.files()/7) }

// failures says why rows are incomplete. A peer that is not installed is no failure.
func (b *bench) failures() error {
	var errs []error
	seen := map[*series]bool{}
	for _, r := range b.rows {
		for _, s := range []*series{r.measured, r.against} {
			if s.err != nil && !seen[s] && !errors.Is(s.err, errMissing) {
				errs = append(errs, fmt.Errorf("%s: %s: %w", r.task, s.name, s.err))
			}
			seen[s] = true
		}
	}
	return errors.Join(errs...)
}

// A watch is a watcher that begins anew each time; ours is nil for a peer.
type watch struct {
	watcher
	ours *rsince
}

// watches are all that can watch, ours first.
func (b *bench) watches() ([]watch, error) {
	var all []watch
	for _, backend := range []string{"fanotify", "inotify"} {
		r, err := newRsince(b.program, filepath.Join(b.dir, backend), b.tree.path, filepath.Join(b.dir, "ours"), backend)
		if err != nil {
			return nil, err
		}
		all = append(all, watch{r.watcher(), r})
	}
	l, err := lsyncd(b.dir, b.tree.path)
	return append(all, watch{inotifywait(b.tree.path), nil}, watch{l, nil}), err
}

// begin starts a watcher that knows nothing from before.
func (w watch) begin(ctx context.Context) (*watching, error) {
	if w.ours != nil {
		if err := w.ours.forget(); err != nil {
			return nil, err
		}
	}
	return w.start(ctx)
}
