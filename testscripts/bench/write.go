package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// write measures what watching costs the program that writes, and the memory that the list of what
// it wrote takes.
func (b *bench) write(ctx context.Context) error {
	watches, err := b.watches()
	if err != nil {
		return err
	}
	n := b.scaled(100_000)
	w := writer{list: filepath.Join(b.dir, "written"), files: n}
	if err := writeList(w.list, b.tree.choose(n)); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	watches = append(watches, watch{discarder(self, b.tree.path), nil})
	c := contest{task: fmt.Sprintf("%d × open, append, append, close", n)}
	for _, other := range watches {
		c.contenders = append(c.contenders, contender{other.name, func(ctx context.Context) (reading, error) {
			return w.watched(ctx, b.tree, other)
		}})
	}
	c.contenders = append(c.contenders, contender{"unwatched", func(ctx context.Context) (reading, error) {
		return w.run(ctx, b.tree)
	}})
	s, err := c.hold(ctx, b.dir, b.rounds)
	watched, unwatched := s[:len(watches)], s[len(watches)]
	asked := limit{ratio: 1.5}
	for _, series := range watched {
		b.rows = append(b.rows, row{c.task + ", s", series, unwatched, seconds, asked})
		asked = limit{}
	}
	b.rows = append(b.rows, row{fmt.Sprintf("memory with %d pending, MB", n), s[0], s[1], pending, limit{value: 40}})
	return err
}

// A writer is this program, started again to append to the files that a list names.
type writer struct {
	list  string
	files int
}

// run measures the writer.
func (w writer) run(ctx context.Context, t *tree) (reading, error) {
	self, err := os.Executable()
	if err != nil {
		return reading{}, err
	}
	took, _, err := timed(ctx, []string{self, writeCommand, t.path, w.list})
	return reading{seconds: took}, err
}

// watched measures the writer while by watches, and what by knows afterwards.
func (w writer) watched(ctx context.Context, t *tree, by watch) (reading, error) {
	running, err := by.begin(ctx)
	if err != nil {
		return reading{}, err
	}
	r, err := w.run(ctx, t)
	if err == nil && by.ours != nil {
		r.pending, err = w.listed(ctx, by.ours, running)
	}
	err = errors.Join(err, running.stop(ctx))
	if running.overflowed {
		r.remark = "lost events"
	}
	return r, err
}

// listed returns the memory of a watcher that lists all files written, in megabytes.
func (w writer) listed(ctx context.Context, r *rsince, running *watching) (float64, error) {
	n, err := r.listed(ctx)
	if err != nil {
		return 0, err
	}
	if n < w.files {
		return 0, fmt.Errorf("%d of %d changes are listed", n, w.files)
	}
	return running.memory()
}

// writeCommand is the argument that makes this program the writer.
const writeCommand = "append-to-all"

// appendToAll opens, appends to twice and closes every file below dir that list names.
func appendToAll(dir, list string) error {
	names, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	for name := range bytes.Lines(names) {
		file := filepath.Join(dir, string(bytes.TrimSuffix(name, []byte("\n"))))
		if err := writeFile(file, os.O_APPEND, []byte("one more line\n"), []byte("and another\n")); err != nil {
			return err
		}
	}
	return nil
}
