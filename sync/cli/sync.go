package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"rsince/logs"
	rsincesync "rsince/sync"
	"rsince/sync/profile"
	"rsince/sync/rsync"
)

// syncOptions are the flags of sync.
type syncOptions struct {
	full, dryRun, accept, deleteExisting bool
	quiet, verbose                       bool
	maxDelete, wait                      string
}

func (w *world) syncCommand() *cobra.Command {
	var o syncOptions
	c := &cobra.Command{
		Use:   "sync [PROFILE... | SOURCE TARGET]",
		Short: "Copy what was written since the last run",
		Long: `Sync runs each of these profiles once (default: all). Two arguments of which one holds a
/ or : are a source and a target without a profile; the contents of SOURCE are copied,
with or without a trailing slash.`,
		ValidArgsFunction: w.names,
		RunE:              func(c *cobra.Command, args []string) error { return w.sync(c.Context(), args, o) },
	}
	f := c.Flags()
	f.BoolVar(&o.full, "full", false, "compare everything")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "print what would be done, counting whole files; do nothing")
	f.BoolVar(&o.accept, "accept", false, "source and target are meant, whatever they were before")
	f.BoolVar(&o.deleteExisting, "delete-existing", false, "with SOURCE TARGET: also the first run deletes what the source does not have")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing unless something is wrong")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print every change of the target")
	f.StringVar(&o.maxDelete, "max-delete", "", "refuse to delete more than `N|N%|none`")
	f.StringVar(&o.wait, "wait", "0s", "wait for another run on the same target for this `DURATION`")
	c.MarkFlagsMutuallyExclusive("quiet", "verbose")
	return c
}

func (w *world) sync(ctx context.Context, args []string, o syncOptions) error {
	jobs, err := w.jobs(args, o)
	if len(jobs) == 0 {
		return err
	}
	codes := []int{exitCode(err)}
	if err != nil {
		w.complain(err)
	}
	for _, job := range jobs {
		if ctx.Err() != nil {
			codes = append(codes, exitInterrupted)
			break
		}
		codes = append(codes, w.runJob(ctx, job, o))
	}
	if code := worst(codes...); code != exitDone {
		return &reported{code}
	}
	if o.dryRun { // what other runs print is in the list of runs as well
		return w.stdout.err
	}
	return nil
}

// jobs makes the jobs that the arguments name. With an error it returns those that can be run.
func (w *world) jobs(args []string, o syncOptions) ([]*rsincesync.Job, error) {
	base, err := w.baseJob(o)
	if err != nil {
		return nil, err
	}
	if isOneShot(args) {
		job, err := w.oneShot(*base, args[0], args[1], o)
		if err != nil {
			return nil, err
		}
		return []*rsincesync.Job{job}, nil
	}
	if o.deleteExisting {
		return nil, &usageError{errors.New("--delete-existing goes with SOURCE TARGET; for a profile there is --accept")}
	}
	profiles, err := w.profiles(args)
	if len(profiles) == 0 && len(args) == 2 && isDirectory(args[0]) {
		err = &advised{err, "if directories are meant: " + w.commandLine("sync", "./"+args[0], "./"+args[1])}
	}
	var jobs []*rsincesync.Job
	for _, p := range profiles {
		job := *base
		job.Profile, job.Dir = p, w.dirs.profile(p.Name)
		jobs = append(jobs, &job)
	}
	return jobs, err
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// baseJob holds what all jobs of a command line share.
func (w *world) baseJob(o syncOptions) (*rsincesync.Job, error) {
	wait, err := time.ParseDuration(o.wait)
	if err != nil || wait < 0 {
		return nil, &usageError{fmt.Errorf("--wait: %q is not a duration such as 90s or 10m", o.wait)}
	}
	job := &rsincesync.Job{
		Locks: w.dirs.locks(), Socket: w.dirs.socket, Own: w.dirs.own(),
		Full: o.full, DryRun: o.dryRun, Accept: o.accept, Wait: wait,
	}
	if o.maxDelete != "" {
		limit, err := profile.ParseLimit(o.maxDelete)
		if err != nil {
			return nil, &usageError{fmt.Errorf("--max-delete: %w", err)}
		}
		job.MaxDelete = &limit
	}
	if job.Runs, err = w.list(); err != nil {
		return nil, err
	}
	return job, nil
}

// isOneShot tells a source and a target from the names of two profiles.
func isOneShot(args []string) bool {
	if len(args) != 2 {
		return false
	}
	for _, a := range args {
		if strings.ContainsAny(a, "/:") || a == "." || a == ".." {
			return true
		}
	}
	return false
}

func (w *world) oneShot(job rsincesync.Job, source, target string, o syncOptions) (*rsincesync.Job, error) {
	p, err := ends(source, target)
	if err != nil {
		return nil, err
	}
	p.Watch.Backend = "none"
	p.Name = p.Source + " " + p.Target.String()
	sum := sha256.Sum256([]byte(p.Source + "\x00" + p.Target.String()))
	job.Profile, job.Dir = p, w.dirs.oneShot(hex.EncodeToString(sum[:12]))
	job.Existing = rsincesync.KeepExisting
	if o.deleteExisting {
		job.Existing = rsincesync.DeleteExisting
	}
	return &job, nil
}

// runJob runs one job, prints what the user is to know of it, and returns its exit code.
func (w *world) runJob(ctx context.Context, job *rsincesync.Job, o syncOptions) int {
	name := job.Profile.Name
	display := newDisplay(w.stderr, name, !o.quiet && !o.dryRun && !w.json)
	job.Progress = display.progress
	job.Warn = func(text string) { display.clear(); w.report(name, oneLine(text)) }
	if o.verbose || o.dryRun {
		job.Items = func(item rsync.Item) { display.clear(); w.printItem(item) }
	}
	run, err := job.Run(ctx)
	display.clear()
	code := runCode(run, err)
	switch {
	case errors.Is(err, context.Canceled):
		w.report(name, interruption(job.Profile))
	case err != nil:
		w.complainOf(name, &profileError{profile: job.Profile, err: err})
	case run.State == logs.Partial:
		w.report(name, run.Message)
		w.advise(w.hintOfPartial(job.Profile, run.ID))
	}
	switch told := o.verbose || o.dryRun || isTerminal(w.stdout.Writer) && !o.quiet; {
	case w.json && !o.dryRun:
		_ = json.NewEncoder(w.stdout).Encode(run)
	case !w.json && code == exitDone && told:
		printLine(w.stdout, "%s", summary(run, o.dryRun))
	}
	return code
}

// interruption says what becomes of a run that was ended by a signal.
func interruption(p *profile.Profile) string {
	if oneShot(p) {
		return "interrupted; the next run does what is left"
	}
	return "interrupted; all changes are still pending"
}

func (w *world) hintOfPartial(p *profile.Profile, id string) string {
	log := w.commandLine("log", id)
	if oneShot(p) {
		return log + " shows what rsync said"
	}
	return w.commandLine("changes", p.Name) + " shows what is left, " + log + " what rsync said"
}

// summary is the line in which a run ends.
func summary(run logs.Run, dry bool) string {
	took := run.Ended.Sub(run.Started).Seconds()
	would := ""
	if dry {
		would = "would be "
	}
	if run.Created+run.Updated+run.Deleted == 0 {
		return fmt.Sprintf("%s: nothing %schanged, in %.1f s", run.Profile, would, took)
	}
	return fmt.Sprintf("%s: %d %schanged, %d %sdeleted, %s in %.1f s", run.Profile,
		run.Created+run.Updated, would, run.Deleted, would, humanize.IBytes(uint64(run.Bytes)), took)
}

func (w *world) printItem(item rsync.Item) {
	if !w.json {
		printLine(w.stdout, "%-7s %s", item.Action, quote(item.Path))
		return
	}
	line := map[string]any{"action": item.Action.String(), "bytes": item.Bytes}
	putPath(line, item.Path)
	_ = json.NewEncoder(w.stdout).Encode(line)
}
