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
	dirs    dirs
	flags   []string // those that say where things lie, as they were given
	stdout  *output
	stderr  io.Writer
	json    bool
	running bool // a command has begun: its command line was right
}

// output is stdout. It remembers the first error of writing to it.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// Main runs the command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	w := &world{stdout: &output{Writer: stdout}, stderr: stderr}
	root := w.rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && !w.running {
		err = wrongCommandLine(err)
	}
	w.complain(err)
	return exitCode(err)
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
			w.flags = slices.Concat(given("--config", config), given("--state-dir", state))
			return err
		},
	}
	root.SetVersionTemplate("rsince {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&config, "config", "", "`DIR` of the profiles, DIR/*.toml (default /etc/rsince for root, else ~/.config/rsince)")
	flags.StringVar(&state, "state-dir", "", "`DIR` for everything that rsince writes (default /var/lib/rsince for root, else ~/.local/state/rsince)")
	flags.BoolVar(&w.json, "json", false, "print data as JSON lines")
	root.AddCommand(w.initCommand(), w.watchCommand(), w.syncCommand(), w.statusCommand(), w.changesCommand(),
		w.runsCommand(), w.logCommand(), w.verifyCommand(), w.checkCommand())
	for _, c := range root.Commands() {
		run := c.RunE
		c.RunE = func(c *cobra.Command, args []string) error {
			w.running = true
			return run(c, args)
		}
		if c.Args != nil {
			c.Args = withUsage(c.Args)
		}
	}
	return root
}

// given is a flag as it was given; nothing if it was not.
func given(flag, value string) []string {
	if value == "" {
		return nil
	}
	return []string{flag + "=" + value}
}

func withUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return fmt.Errorf("%w; usage: %s", err, c.UseLine())
		}
		return nil
	}
}

// wrongCommandLine makes a usageError of what cobra says, with its suggestions, which come behind the
// error, as a hint.
func wrongCommandLine(err error) error {
	text, like, ok := strings.Cut(err.Error(), "\n\nDid you mean this?\n")
	if !ok {
		return &usageError{err}
	}
	return &usageError{&advised{errors.New(text), "did you mean " + strings.Join(strings.Fields(like), " or ") + "?"}}
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(unknown version)"
	}
	return info.Main.Version
}

// profiles returns the profiles with these names, or all if there are none. With an error it returns
// those that are right, unless there is a name of which there is no file.
func (w *world) profiles(names []string) ([]*profile.Profile, error) {
	all, err := profile.Load(w.dirs.config)
	switch _, statErr := os.Stat(w.dirs.config); {
	case errors.Is(statErr, fs.ErrNotExist):
		return nil, w.noProfiles(statErr)
	case err != nil:
		err = &usageError{err}
	case len(all) == 0 && len(names) == 0:
		return nil, w.noProfiles(nil)
	}
	if len(names) == 0 {
		return all, err
	}
	var chosen []*profile.Profile
	for _, name := range names {
		i := slices.IndexFunc(all, func(p *profile.Profile) bool { return p.Name == name })
		if i >= 0 {
			chosen = append(chosen, all[i])
		} else if !w.hasProfile(name) {
			missing := fmt.Errorf("there is no profile %q in %s", name, w.dirs.config)
			return nil, errors.Join(&usageError{&advised{missing, "ls " + shellLine(w.dirs.config) + " shows which there are"}}, err)
		}
	}
	if len(chosen) == len(names) { // what is wrong with others does not concern these
		return chosen, nil
	}
	return chosen, err
}

func (w *world) noProfiles(err error) error {
	if err == nil {
		err = fmt.Errorf("there are no profiles in %s", w.dirs.config)
	} else {
		err = fmt.Errorf("there are no profiles: %w", err)
	}
	return &usageError{&advised{err, w.commandLine("init") + " SOURCE TARGET writes a profile; --config DIR reads others"}}
}

// hasProfile reports whether there is a profile of this name, right or wrong.
func (w *world) hasProfile(name string) bool {
	if profile.ValidName(name) != nil {
		return false
	}
	_, err := os.Lstat(w.dirs.profileFile(name))
	return err == nil
}

// list opens the run list and settles what runs left that died. What cannot be settled, on a full disk
// say, can still be read.
func (w *world) list() (*logs.List, error) {
	l, err := logs.Open(w.dirs.logs)
	if err != nil {
		return nil, fmt.Errorf("opening the list of runs: %w", err)
	}
	if err := l.Settle(); err != nil {
		w.complain(fmt.Errorf("settling runs that died: %w", err))
	}
	return l, nil
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
