package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A copying is a task of the copy group.
type copying struct {
	task    string
	changes int  // files rewritten before each round
	listed  bool // the peer is given a list of them; else it compares everything
	first   bool // the targets are empty: there is one round
	asked   limit
}

func (b *bench) copyings() []copying {
	some, more, many := b.scaled(100), b.scaled(10_000), b.scaled(100_000)
	return []copying{
		{task: "first copy", first: true},
		{task: "nothing changed", asked: limit{value: 0.1, ratio: 0.02}},
		{task: fmt.Sprintf("%d changes", some), changes: some, listed: true, asked: limit{ratio: 1.5}},
		{task: fmt.Sprintf("%d changes", more), changes: more, listed: true, asked: limit{ratio: 1.3}},
		{task: fmt.Sprintf("%d changes", many), changes: many, listed: true},
		{task: fmt.Sprintf("%d changes", many), changes: many},
	}
}

// copy measures runs. Ours and the peer's bring the same changes from the same tree, each to a
// target of its own. In the end our target must equal the source.
func (b *bench) copy(ctx context.Context) error {
	target, peer := filepath.Join(b.dir, "ours"), mirror{b.tree.path, filepath.Join(b.dir, "peer")}
	if err := errors.Join(os.Mkdir(target, 0o755), os.Mkdir(peer.target, 0o755)); err != nil {
		return err
	}
	ours, err := newRsince(b.program, filepath.Join(b.dir, "copy"), b.tree.path, target, "auto")
	if err != nil {
		return err
	}
	running, err := ours.watcher().start(ctx)
	if err != nil {
		return err
	}
	for _, t := range b.copyings() {
		if err == nil {
			err = b.race(ctx, t, ours, peer)
		}
	}
	if err == nil {
		progress("comparing source and target")
		err = compare(ctx, b.tree.path, target)
	}
	err = errors.Join(err, running.stop(ctx))
	if running.complaints.Len() > 0 { // they explain why a run compared everything
		progress("the watcher said:\n%s", &running.complaints)
	}
	return err
}

// young is how long before a run that nobody watched a change may lie for the next one to take it for one
// that went on.
const young = 10 * time.Minute

// unwatched measures runs that find by the tree itself that nothing has changed.
func (b *bench) unwatched(ctx context.Context) error {
	progress("waiting until what was changed is %v old", young)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(young):
	}
	target, peer := filepath.Join(b.dir, "ours"), mirror{b.tree.path, filepath.Join(b.dir, "peer")}
	if err := errors.Join(os.MkdirAll(target, 0o755), os.MkdirAll(peer.target, 0o755)); err != nil {
		return err
	}
	ours, err := newRsince(b.program, filepath.Join(b.dir, "unwatched"), b.tree.path, target, "none")
	if err != nil {
		return err
	}
	ours.mode = "gap"
	if _, err := ours.sync(ctx, 0, "--accept"); err != nil {
		return err
	}
	if _, err := peer.copy(ctx, "--delete"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	task := "nothing changed, nobody watched"
	c := contest{task: task, contenders: []contender{
		{"rsince sync", func(ctx context.Context) (reading, error) { return ours.sync(ctx, 0) }},
		{"rsync --delete", func(ctx context.Context) (reading, error) { return peer.copy(ctx, "--delete") }},
		bareWalk(self, b.tree.path),
	}}
	s, err := c.hold(ctx, b.dir, b.rounds)
	b.rows = append(b.rows,
		row{task + ", s", s[0], s[1], seconds, limit{value: 1.6, ratio: 0.2}},
		row{task + ", s", s[0], s[2], seconds, limit{ratio: 1.6}})
	return err
}

func (b *bench) race(ctx context.Context, t copying, ours *rsince, peer mirror) error {
	rounds, files := b.rounds, t.changes
	if t.first {
		rounds, files = 1, b.files()
	}
	list := filepath.Join(b.dir, "list")
	name, option := "rsync --delete", "--delete"
	if t.listed {
		name, option = "rsync --files-from", "--files-from="+list
	}
	c := contest{task: t.task, contenders: []contender{
		{"rsince sync", func(ctx context.Context) (reading, error) { return ours.sync(ctx, files) }},
		{name, func(ctx context.Context) (reading, error) { return peer.copy(ctx, option) }},
	}}
	if t.changes > 0 {
		c.prepare = func(ctx context.Context) error {
			changed, err := b.tree.rewrite(ctx, t.changes)
			return errors.Join(err, writeList(list, changed))
		}
	}
	s, err := c.hold(ctx, b.dir, rounds)
	b.rows = append(b.rows, row{t.task + ", s", s[0], s[1], seconds, t.asked})
	return err
}
