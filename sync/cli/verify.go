package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	rsincesync "rsince/sync"
	"rsince/sync/profile"
)

// verifyOptions are the flags of verify.
type verifyOptions struct {
	checksum, repair, nul, quiet bool
	wait                         string
}

func (w *world) verifyCommand() *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use:   "verify PROFILE",
		Short: "Compare the target with the source, and tell what runs have missed",
		Long: `Verify compares what is there by type, size, times, mode, owner, extended attributes,
ACLs and links, and writes to neither side. What is pending is left out. A directory that
only one side has is one line. The exit code is 3 if anything differs.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: w.names,
		RunE:              func(c *cobra.Command, args []string) error { return w.verify(c.Context(), args[0], o) },
	}
	f := c.Flags()
	f.BoolVar(&o.checksum, "checksum", false, "read all contents on both sides")
	f.BoolVar(&o.repair, "repair", false, "have the next run copy what differs")
	f.BoolVarP(&o.nul, "null", "0", false, "print bare paths, each with a NUL behind it")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print only what differs")
	f.StringVar(&o.wait, "wait", "0s", "wait for a run on the same target for this `DURATION`")
	return c
}

func (w *world) verify(ctx context.Context, name string, o verifyOptions) error {
	profiles, err := w.profiles([]string{name})
	if err != nil {
		return err
	}
	job, err := w.baseJob(syncOptions{wait: o.wait})
	if err != nil {
		return err
	}
	p := profiles[0]
	job.Profile, job.Dir = p, w.dirs.profile(p.Name)
	job.Warn = func(text string) { w.report(name, oneLine(text)) }
	v := rsincesync.Verification{Job: job, Checksum: o.checksum, Repair: o.repair}
	found, err := v.Run(ctx)
	if err != nil {
		w.complainOf(name, w.ofVerifying(p, err))
		return &reported{exitCode(err)}
	}
	if err := w.printDifferences(found.Differences, o.nul); err != nil {
		return err
	}
	return w.verdictOf(p, found, o)
}

// ofVerifying gives an error of a verification the hint that fits it.
func (w *world) ofVerifying(p *profile.Profile, err error) error {
	var locked *rsincesync.LockedError
	switch {
	case errors.As(err, &locked):
		return &advised{err, w.commandLine("verify", "--wait", "10m", p.Name) + " waits for it; " + w.commandLine("runs", "--state", "running") + " shows it"}
	case errors.Is(err, rsincesync.ErrNeverCopied):
		return &advised{err, w.syncCommandLine(p) + " copies it"}
	}
	return &profileError{profile: p, err: err, checked: true}
}

func (w *world) printDifferences(differences []rsincesync.Difference, nul bool) error {
	out := bufio.NewWriter(w.stdout)
	for _, d := range differences {
		switch {
		case w.json:
			line := map[string]any{"what": d.What}
			putPath(line, d.Path)
			_ = json.NewEncoder(out).Encode(line) // out remembers the first error
		case nul:
			fmt.Fprintf(out, "%s\x00", d.Path)
		default:
			printLine(out, "%-21s %s", strings.Join(d.What, ", "), quote(d.Path))
		}
	}
	return out.Flush()
}

// verdictOf says how a verification ended and gives its exit code.
func (w *world) verdictOf(p *profile.Profile, found *rsincesync.Findings, o verifyOptions) error {
	const shown = 10
	for _, f := range found.Failed[:min(shown, len(found.Failed))] {
		w.report(p.Name, fmt.Sprintf("%s could not be compared: %s", quote(f.Path), f.Reason))
	}
	if more := len(found.Failed) - shown; more > 0 {
		w.report(p.Name, fmt.Sprintf("%d more could not be compared; %s tells them all", more, w.commandLine("log", found.Run.ID)))
	}
	n := len(found.Differences)
	if !o.quiet {
		printLine(w.stderr, "%s", verdictLine(found))
		switch {
		case n > 0 && o.repair:
			w.advise("they are in the journal now: " + w.syncCommandLine(p) + " copies them")
		case n > 0:
			w.advise(w.commandLine("verify", "--repair", p.Name) + " has the next run copy them")
		}
	}
	if n+len(found.Failed) > 0 {
		return &reported{exitPartial}
	}
	return nil
}

func verdictLine(found *rsincesync.Findings) string {
	differ := "nothing differs"
	switch n := len(found.Differences); {
	case n == 1:
		differ = "1 name differs"
	case n > 1:
		differ = fmt.Sprintf("%d names differ", n)
	}
	if found.Pending > 0 {
		differ += fmt.Sprintf(" besides %d pending", found.Pending)
	}
	return fmt.Sprintf("%s: %s, in %.1f s", found.Run.Profile, differ, found.Run.Ended.Sub(found.Run.Started).Seconds())
}
