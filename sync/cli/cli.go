// Package cli is rsince's command line: one file per command, and what all share: where things lie,
// exit codes, hints, and how data is printed.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rsince/logs"
	"rsince/sync/profile"
)

// world is what every command works in.
type world struct {
	dirs           dirs
	stdout, stderr io.Writer
	json           bool
}

// Main runs the command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	w := &world{stdout: stdout, stderr: stderr}
	root := w.rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	w.complain(err)
	return exitCode(err)
}

// complain prints an error and what to do about it. Errors that were printed as they occurred only
// carry an exit code.
func (w *world) complain(err error) {
	var silent *reported
	if err == nil || errors.As(err, &silent) {
		return
	}
	w.complainOf("", err)
}

func (w *world) complainOf(about string, err error) {
	if about != "" {
		about += ": "
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(w.stderr, "rsince: %s%s\n", about, line)
	}
	if h := hint(err); h != "" {
		fmt.Fprintf(w.stderr, "hint: %s\n", h)
	}
}

func (w *world) rootCommand() *cobra.Command {
	var config, state string
	root := &cobra.Command{
		Use:   "rsince",
		Short: "rsync, since the last run",
		Long: `rsince copies a directory tree to another disk or host, over and over, and each time
only what was written since the last run.

A watcher (rsince watch) notes what changes. A run (rsince sync), by hand, from cron
or from a systemd timer, takes that list and has just these files copied.`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) (err error) {
			w.dirs, err = findDirs(config, state)
			return err
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.SetVersionTemplate("rsince {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&config, "config", "", "`DIR` of the profiles, DIR/*.toml (default /etc/rsince for root, else ~/.config/rsince)")
	flags.StringVar(&state, "state-dir", "", "`DIR` for everything that rsince writes (default /var/lib/rsince for root, else ~/.local/state/rsince)")
	flags.BoolVar(&w.json, "json", false, "print data as JSON lines")
	root.AddCommand(w.initCommand(), w.watchCommand(), w.syncCommand(), w.statusCommand(), w.changesCommand(),
		w.runsCommand(), w.logCommand(), w.checkCommand())
	for _, c := range root.Commands() {
		if c.Args != nil {
			c.Args = asUsage(c.Args)
		}
	}
	return root
}

func asUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return &usageError{fmt.Errorf("%w; usage: %s", err, c.UseLine())}
		}
		return nil
	}
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(unknown version)"
	}
	return info.Main.Version
}

// profiles returns the profiles with these names, or all if there are none. With an error it returns
// those that are right.
func (w *world) profiles(names []string) ([]*profile.Profile, error) {
	all, err := profile.Load(w.dirs.config)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &usageError{fmt.Errorf("there are no profiles: %w", err)}
	} else if err != nil {
		err = &usageError{err}
	}
	if len(names) == 0 {
		if len(all) == 0 && err == nil {
			err = &usageError{fmt.Errorf("there are no profiles in %s", w.dirs.config)}
		}
		return all, err
	}
	var chosen []*profile.Profile
	for _, name := range names {
		i := slices.IndexFunc(all, func(p *profile.Profile) bool { return p.Name == name })
		switch {
		case i >= 0:
			chosen = append(chosen, all[i])
		case err == nil:
			return nil, &usageError{fmt.Errorf("there is no profile %q in %s", name, w.dirs.config)}
		default:
			return nil, err
		}
	}
	return chosen, nil
}

// list opens the run list and settles what runs left that died.
func (w *world) list() (*logs.List, error) {
	l, err := logs.Open(w.dirs.logs)
	if err != nil {
		return nil, fmt.Errorf("opening the list of runs: %w", err)
	}
	return l, l.Settle()
}

// names completes profile names.
func (w *world) names(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	if cmd.Root().PersistentPreRunE(cmd, nil) != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	all, _ := profile.Load(w.dirs.config)
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// isTerminal reports whether out is a terminal.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
