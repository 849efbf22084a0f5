package sync

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// held are the directories that a run has met, open: what is open is not unmounted, unless by force, and
// what took its place then is noticed.
type held []*os.File

// hold opens a directory for the run and identifies it.
func (h *held) hold(dir string) (identity, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return identity{}, err
	}
	*h = append(*h, f)
	return identify(f)
}

// stillThere returns an error if one of the paths does not lead to what is held.
func (h held) stillThere() error {
	for _, f := range h {
		was, err := f.Stat()
		if err != nil {
			return err
		}
		if is, err := os.Stat(f.Name()); err != nil {
			return fmt.Errorf("it went away during the run: %w", err)
		} else if !os.SameFile(was, is) {
			return fmt.Errorf("%s was unmounted or replaced during the run", f.Name())
		}
	}
	return nil
}

func (h held) release() error {
	var errs []error
	for _, f := range h {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
