package sync

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// held are the directories that a run has met, open: what is open is not unmounted, unless by force, and
// what took its place then is noticed.
type held struct {
	source *os.File
	target *os.File // nil for one on another machine, or yet to be made
}

// hold opens a directory for the run, to be kept in at, and identifies it.
func hold(at **os.File, dir string) (id identity, err error) {
	if *at, err = os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		*at = nil
		return identity{}, err
	}
	return identify(*at)
}

// all gives those that are held.
func (h held) all() []*os.File {
	return slices.DeleteFunc([]*os.File{h.source, h.target}, func(f *os.File) bool { return f == nil })
}

// stillThere returns an error if one of the paths does not lead to what is held.
func (h held) stillThere() error {
	for _, f := range h.all() {
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
	for _, f := range h.all() {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
