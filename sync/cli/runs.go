package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"rsince/logs"
	"rsince/sync/profile"
)

func (w *world) runsCommand() *cobra.Command {
	var state, since, until string
	var limit int
	c := &cobra.Command{
		Use:               "runs [PROFILE...]",
		Short:             "List past and present runs, the newest first",
		ValidArgsFunction: w.names,
		RunE: func(_ *cobra.Command, args []string) error {
			filter, err := runFilter(args, state, since, until, limit)
			if err != nil {
				return &usageError{err}
			}
			return w.runs(filter)
		},
	}
	f := c.Flags()
	f.StringVar(&state, "state", "", "only runs in this `STATE`: running, ok, partial, failed, refused, skipped, interrupted, unknown")
	f.StringVar(&since, "since", "", "only runs that started since `WHEN`: 24h, 7d, 2026-01-31 or 2026-01-31T15:04:05Z")
	f.StringVar(&until, "until", "", "only runs that started before `WHEN`")
	f.IntVar(&limit, "limit", 0, "at most `N` runs")
	return c
}

func runFilter(profiles []string, state, since, until string, limit int) (logs.Filter, error) {
	f := logs.Filter{Profiles: profiles, State: logs.State(state), Limit: limit}
	if state != "" && f.State != logs.Running && !f.State.Ended() {
		return f, fmt.Errorf("--state: %q is no state of a run", state)
	}
	if limit < 0 {
		return f, fmt.Errorf("--limit: %d is less than 0", limit)
	}
	var err error
	if f.Since, err = moment(since); err != nil {
		return f, fmt.Errorf("--since: %w", err)
	}
	if f.Until, err = moment(until); err != nil {
		return f, fmt.Errorf("--until: %w", err)
	}
	return f, nil
}

// moment reads a point in time, or how long ago it was; "" is the zero time.
func moment(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := profile.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, time.DateTime} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%q is neither a duration (24h, 7d) nor a time (2026-01-31, 2026-01-31 15:04:05, 2026-01-31T15:04:05Z)", s)
	}
	return t, nil
}

func (w *world) runs(filter logs.Filter) error {
	list, err := w.list()
	if err != nil {
		return err
	}
	if err := w.knownRuns(list, filter.Profiles); err != nil {
		return err
	}
	if w.json {
		return printRunsJSON(json.NewEncoder(w.stdout), list, filter)
	}
	return w.printRuns(list, filter)
}

// knownRuns refuses a name of which there is neither a profile nor a run.
func (w *world) knownRuns(list *logs.List, names []string) error {
	for _, name := range names {
		known := w.hasProfile(name)
		for _, err := range list.All(logs.Filter{Profiles: []string{name}, Limit: 1}) {
			known = known || err == nil
		}
		if !known {
			return &usageError{fmt.Errorf("there is no profile %q in %s, and no run of it", name, w.dirs.config)}
		}
	}
	return nil
}

// printRunsJSON goes on after a damaged record, and ends with what was damaged.
func printRunsJSON(out *json.Encoder, list *logs.List, filter logs.Filter) error {
	var damage error
	for run, err := range list.All(filter) {
		if err != nil {
			damage = errors.Join(damage, err)
		} else if err := out.Encode(run); err != nil {
			return err
		}
	}
	return damage
}

func (w *world) printRuns(list *logs.List, filter logs.Filter) error {
	var damage error
	n := 0
	table := tabwriter.NewWriter(w.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RUN\tPROFILE\tSTARTED\tMODE\tSTATE\tTOOK\tCHANGED\tDELETED\tBYTES\tMESSAGE")
	for run, err := range list.All(filter) {
		if err != nil {
			damage = errors.Join(damage, err)
			continue
		}
		n++
		ended := run.Ended
		if ended.IsZero() {
			ended = time.Now()
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", run.ID, printable(run.Profile),
			run.Started.Local().Format(time.DateTime), run.Mode, run.State, roundly(ended.Sub(run.Started)),
			run.Created+run.Updated, run.Deleted, humanize.IBytes(uint64(run.Bytes)), printable(run.Message))
	}
	fmt.Fprintf(table, "%d runs\n", n)
	return errors.Join(damage, table.Flush())
}
