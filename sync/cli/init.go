package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rsince/changes"
	"rsince/sync/profile"
)

func (w *world) initCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "init SOURCE TARGET",
		Short: "Write a profile that copies SOURCE to TARGET",
		Args:  cobra.ExactArgs(2),
		RunE:  func(c *cobra.Command, args []string) error { return w.init(c.Context(), args[0], args[1], name) },
	}
	c.Flags().StringVar(&name, "name", "", "`NAME` of the profile (default: the last part of SOURCE)")
	return c
}

func (w *world) init(ctx context.Context, source, target, name string) error {
	p, err := ends(source, target)
	if err != nil {
		return err
	}
	if name == "" {
		name = nameOf(p.Source)
	}
	if err := profile.ValidName(name); err != nil {
		return &usageError{&advised{err, "--name NAME gives the profile another name"}}
	}
	file, err := w.writeProfile(name, profile.Template(p.Source, p.Target.String()))
	if err != nil {
		return err
	}
	printLine(w.stdout, "wrote %s", file)
	if _, err := os.Stat(p.Source); err != nil {
		w.report(name, fmt.Sprintf("the source is not there: %v", err))
	}
	printLine(w.stdout, "next:")
	printLine(w.stdout, "  %s", w.nextWatch(w.watcher(ctx), name))
	printLine(w.stdout, "  %s", w.commandLine("sync", name))
	return nil
}

// writeProfile writes a profile that is right, also beside the others, and new.
func (w *world) writeProfile(name string, text []byte) (file string, err error) {
	file = w.dirs.profileFile(name)
	if w.hasProfile(name) {
		return "", fmt.Errorf("%s exists already; --name gives the profile another name", file)
	}
	if err := w.tryProfile(name, text); err != nil {
		return "", err
	}
	if err := os.MkdirAll(w.dirs.config, 0o755); err != nil {
		return "", err
	}
	return file, writeNew(file, text)
}

// nextWatch is the command that has a new profile watched.
func (w *world) nextWatch(v watching, name string) string {
	switch {
	case errors.Is(v.err, changes.ErrNoWatcher):
		return w.commandLine("watch") + " &"
	case v.err != nil:
		return w.commandLine("check", name)
	case v.takes([]string{name}):
		return fmt.Sprintf("kill -HUP %d   # has the running watcher read the profiles again", v.process.PID)
	}
	return fmt.Sprintf("kill %d; %s &   # the running watcher is for %s only", v.process.PID, w.commandLine("watch"), strings.Join(v.process.Only, ", "))
}

// tryProfile reads a profile that is to be written together with the others that are there, in a
// directory to which they are linked, and refuses one that is wrong or does harm to another.
func (w *world) tryProfile(name string, text []byte) error {
	dir, err := os.MkdirTemp("", "rsince-init-")
	if err != nil {
		return err
	}
	err = w.tryProfileIn(dir, name, text)
	return errors.Join(err, os.RemoveAll(dir))
}

func (w *world) tryProfileIn(dir, name string, text []byte) error {
	others, err := os.ReadDir(w.dirs.config)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, other := range others {
		if err := os.Symlink(filepath.Join(w.dirs.config, other.Name()), filepath.Join(dir, other.Name())); err != nil {
			return err
		}
	}
	before, known := profile.Load(dir)
	if err := os.WriteFile(filepath.Join(dir, name+".toml"), text, 0o600); err != nil {
		return err
	}
	after, found := profile.Load(dir)
	if len(after) > len(before) {
		return nil
	}
	return &usageError{since(known, found, func(line string) string {
		return strings.ReplaceAll(line, dir+"/", w.dirs.config+"/")
	})}
}

// since joins what an error says more than an earlier one, each line as edit makes it.
func since(known, found error, edit func(string) string) error {
	var old []string
	if known != nil {
		old = lines(known)
	}
	var fresh []error
	for _, line := range lines(found) {
		if !slices.Contains(old, line) {
			fresh = append(fresh, errors.New(edit(line)))
		}
	}
	return errors.Join(fresh...)
}

func writeNew(file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// nameOf makes a profile's name of the last part of its source.
func nameOf(source string) string {
	if source == "/" {
		return "root"
	}
	return strings.Trim(regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString(filepath.Base(source), "-"), ".-")
}
