package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"rsince/sync/profile"
)

func (w *world) initCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "init SOURCE TARGET",
		Short: "Write a profile that copies SOURCE to TARGET",
		Args:  cobra.ExactArgs(2),
		RunE:  func(_ *cobra.Command, args []string) error { return w.init(args[0], args[1], name) },
	}
	c.Flags().StringVar(&name, "name", "", "`NAME` of the profile (default: the last part of SOURCE)")
	return c
}

func (w *world) init(source, target, name string) error {
	source, err := filepath.Abs(source)
	if err != nil {
		return err
	}
	if !strings.Contains(target, ":") {
		if target, err = filepath.Abs(target); err != nil {
			return err
		}
	}
	to, err := profile.ParseTarget(target)
	if err != nil {
		return &usageError{err}
	}
	if err := profile.Default(source, to).Validate(); err != nil {
		return &usageError{err}
	}
	if name == "" {
		name = nameOf(source)
	}
	if err := profile.ValidName(name); err != nil {
		return &usageError{err}
	}
	if err := os.MkdirAll(w.dirs.config, 0o755); err != nil {
		return err
	}
	file := filepath.Join(w.dirs.config, name+".toml")
	if err := writeNew(file, profile.Template(source, to.String())); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already; --name gives the profile another name", file)
	} else if err != nil {
		return err
	}
	fmt.Fprintf(w.stdout, "wrote %s\nnext:\n  rsince watch %s &\n  rsince sync %s\n", file, name, name)
	return nil
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
