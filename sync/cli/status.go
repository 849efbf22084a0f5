package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"rsince/changes"
	"rsince/logs"
	rsincesync "rsince/sync"
	"rsince/sync/profile"
)

// statusLine is a line of `rsince status --json`. Fields are added, never renamed.
type statusLine struct {
	Profile       string     `json:"profile"`
	Watching      bool       `json:"watching"`
	Backend       string     `json:"backend"`
	BackendReason string     `json:"backend_reason"`
	Since         *time.Time `json:"since"`         // start of unbroken watching
	Pending       *int       `json:"pending"`       // null while a gap makes it unknown
	PendingSince  *time.Time `json:"pending_since"` // the oldest one
	Gap           string     `json:"gap"`
	Gaps          []string   `json:"gaps"` // of the journal: all there are, one for each reason
	LastSuccess   *time.Time `json:"last_success"`
	LastRun       string     `json:"last_run"`
	LastState     logs.State `json:"last_state"`
	NextFull      *time.Time `json:"next_full"`    // not later than; null if never or with the next run
	TargetKnown   bool       `json:"target_known"` // whether another disk in the target's place is noticed
	Missed        *int       `json:"missed"`       // differences that the last verification, or full run since, found; null if there was none
	Verified      *time.Time `json:"verified"`     // when that was
	Unseen        []string   `json:"unseen"`       // where the last run could not look for files open for writing

	repaired bool // and they were put into the journal then
	full     bool // or it was a full run

	hint string // what to do about Gap
}

func (w *world) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "status [PROFILE...]",
		Short:             "Tell what is watched, what is pending, and how the last runs went",
		ValidArgsFunction: w.names,
		RunE:              func(c *cobra.Command, args []string) error { return w.status(c.Context(), args) },
	}
}

func (w *world) status(ctx context.Context, names []string) error {
	profiles, wrong := w.profiles(names)
	if len(profiles) == 0 {
		return wrong
	}
	list, err := w.list()
	if err != nil {
		return err
	}
	watcher, failed := w.watcher(ctx), false
	for _, p := range profiles {
		line, err := w.statusOf(ctx, p, list, watcher)
		if err != nil {
			w.complainOf(p.Name, &profileError{profile: p, err: err, checked: true})
			failed = true
		}
		switch {
		case line == nil: // nothing is known
		case w.json:
			_ = json.NewEncoder(w.stdout).Encode(line)
		default:
			w.printStatus(p, line)
		}
	}
	if failed {
		w.complain(wrong)
		return &reported{exitFailed}
	}
	return cmp.Or(wrong, w.stdout.err)
}

// statusOf also returns a line, without what could not be read, with some of its errors.
func (w *world) statusOf(ctx context.Context, p *profile.Profile, list *logs.List, watcher watching) (*statusLine, error) {
	line := &statusLine{Profile: p.Name, Backend: "none", Gaps: []string{}, TargetKnown: !p.Target.Daemon}
	s, err := watcher.watches(w, p)
	if err == nil {
		line.Watching, line.Backend, line.BackendReason, line.Since = true, s.Backend, backendReason(p, s), &s.Since
		err = changes.Settle(ctx, w.dirs.socket, p.Name)
	} else if errors.Is(err, errUnwanted) {
		line.BackendReason = chosenByProfile
	}
	if err != nil {
		line.Gap, line.hint = err.Error(), w.hint(err)
	}
	if err := line.addPending(rsincesync.Journal(w.dirs.profile(p.Name))); err != nil {
		return nil, err
	}
	if err := line.addRuns(list, p.Name); err != nil {
		return nil, err
	}
	full, err := rsincesync.LastFull(w.dirs.profile(p.Name))
	if next := full.Add(p.FullEvery); err == nil && p.FullEvery > 0 && !full.IsZero() {
		line.NextFull = &next
	}
	var unseenErr error
	line.Unseen, unseenErr = rsincesync.Unseen(w.dirs.profile(p.Name))
	return line, errors.Join(err, unseenErr, line.addVerified(w.dirs.profile(p.Name)))
}

func (l *statusLine) addVerified(dir string) error {
	v, err := rsincesync.LastVerified(dir)
	if v != nil {
		l.Missed, l.Verified, l.repaired = &v.Missed, &v.At, v.Repaired
		l.full = v.Full
	}
	return err
}

func (l *statusLine) addPending(journal string) error {
	pending, gaps, err := changes.Pending(journal)
	if err != nil {
		return err
	}
	for _, g := range changes.Together(gaps) {
		l.Gaps = append(l.Gaps, g.Brief())
		l.Gap = cmp.Or(l.Gap, g.Brief())
	}
	if l.Gap == "" {
		n := changes.Paths(pending)
		l.Pending = &n
	}
	for _, c := range pending {
		if c.Path == "" {
			continue
		}
		if l.PendingSince == nil || c.Since.Before(*l.PendingSince) {
			l.PendingSince = &c.Since
		}
	}
	return nil
}

func (l *statusLine) addRuns(list *logs.List, name string) error {
	for run, err := range list.All(logs.Filter{Profiles: []string{name}}) {
		if err != nil {
			return err
		}
		if run.Mode == logs.Verify {
			continue
		}
		if l.LastRun == "" {
			l.LastRun, l.LastState = run.ID, run.State
		}
		if run.State == logs.OK {
			l.LastSuccess = &run.Ended
			return nil
		}
	}
	return nil
}

const chosenByProfile = "the profile says so"

// backendReason tells why a profile is watched as it is.
func backendReason(p *profile.Profile, s changes.Status) string {
	switch {
	case p.Watch.Backend != "auto":
		return chosenByProfile
	case s.BackendReason != "":
		return s.BackendReason
	}
	return "it is the first choice"
}

func (w *world) printStatus(p *profile.Profile, l *statusLine) {
	printLine(w.stdout, "%s: %s to %s", l.Profile, p.Source, p.Target)
	row := func(title, format string, args ...any) {
		printLine(w.stdout, "  %-13s %s", title, fmt.Sprintf(format, args...))
	}
	switch {
	case l.Watching:
		row("watched", "by %s since %s: %s", l.Backend, l.Since.Format(time.DateTime), oneLine(l.BackendReason))
	default:
		row("watched", "no, %s", l.Gap)
	}
	if l.hint != "" {
		row("", "hint: %s", l.hint)
	}
	switch {
	case l.Pending == nil && !l.Watching:
		row("pending", "not known")
	case l.Pending == nil:
		row("pending", "not known: %s", l.Gap)
	case l.PendingSince == nil:
		row("pending", "%d", *l.Pending)
	default:
		row("pending", "%d, the oldest since %s", *l.Pending, ago(*l.PendingSince))
	}
	for _, gap := range l.Gaps {
		if l.Watching && gap != l.Gap {
			row("gap", "%s", oneLine(gap))
		}
	}
	if l.LastSuccess != nil {
		row("last success", "%s (%s)", ago(*l.LastSuccess), l.LastSuccess.Local().Format(time.DateTime))
	} else {
		row("last success", "never")
	}
	if l.LastRun != "" {
		row("last run", "%s, %s", l.LastState, l.LastRun)
	}
	if l.Missed != nil && *l.Missed > 0 {
		by, then := "verification", ""
		switch {
		case l.full:
			by, then = "full run", ", and mended"
		case l.repaired:
			then = ", and put into the journal"
		}
		row("missed", "%d, found by the %s %s%s", *l.Missed, by, ago(*l.Verified), then)
	}
	if l.NextFull != nil {
		row("next full run", "by %s", l.NextFull.Local().Format(time.DateTime))
	}
	if l.Watching && l.Backend == "inotify" {
		row("unheard", "a file written through a shared mapping or asynchronously, and closed between two runs: inotify does not tell")
	}
	for _, unseen := range l.Unseen {
		row("unheard", "files mapped or written asynchronously that could not be looked for: %s", oneLine(unseen))
	}
	if !l.TargetKnown {
		row("target", "is known to be the right one only by not being empty: a daemon does not tell what it is")
	}
}
