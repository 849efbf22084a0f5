package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"rsince/changes"
	rsincesync "rsince/sync"
)

func (w *world) changesCommand() *cobra.Command {
	var nul bool
	c := &cobra.Command{
		Use:               "changes PROFILE",
		Short:             "List what has changed and is not yet copied",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: w.names,
		RunE:              func(c *cobra.Command, args []string) error { return w.changes(c.Context(), args[0], nul) },
	}
	c.Flags().BoolVarP(&nul, "null", "0", false, "print bare paths, each with a NUL behind it")
	return c
}

func (w *world) changes(ctx context.Context, name string, nul bool) error {
	profiles, err := w.profiles([]string{name})
	if err != nil {
		return err
	}
	journal := rsincesync.Journal(w.dirs.profile(profiles[0].Name))
	_, err = w.watcher(ctx).watches(w, profiles[0])
	if err == nil {
		err = changes.Settle(ctx, w.dirs.socket, name)
	}
	switch {
	case errors.Is(err, changes.ErrSilent):
		w.report(name, fmt.Sprintf("%v: what it has not written down yet is not listed", err))
	case err != nil:
		w.report(name, fmt.Sprintf("not watched (%v): later changes are not listed, the next run looks for them", err))
	}
	pending, gaps, err := changes.Pending(journal)
	if err != nil {
		return fmt.Errorf("reading the journal: %w", err)
	}
	for _, g := range gaps {
		w.report(name, g.String())
	}
	out := bufio.NewWriter(w.stdout)
	for _, c := range pending {
		if c.Path != "" { // the others are mostly elsewhere on the source's file system
			w.printChange(out, c, nul)
		}
	}
	return out.Flush()
}

// printChange writes to a buffer that remembers the first error.
func (w *world) printChange(out *bufio.Writer, c changes.Change, nul bool) {
	switch {
	case w.json:
		_ = json.NewEncoder(out).Encode(changeLine(c))
	case nul:
		fmt.Fprintf(out, "%s\x00", c.Path)
	case c.Attempts > 0:
		times := "once"
		if c.Attempts > 1 {
			times = fmt.Sprintf("%d times", c.Attempts)
		}
		printLine(out, "%-10s %s (failed %s, since %s: %s)", c.Kind, quote(c.Path), times, c.Since.Format(time.DateTime), c.Error)
	default:
		printLine(out, "%-10s %s", c.Kind, quote(c.Path))
	}
}

// changeLine is a line of `rsince changes --json`. Keys are added, never renamed.
func changeLine(c changes.Change) map[string]any {
	line := map[string]any{"kind": c.Kind.String(), "since": c.Since, "attempts": c.Attempts, "error": c.Error}
	putPath(line, c.Path)
	return line
}
