// Package logs keeps the list of runs and the log of each: what was done, when, and how it ended.
//
//	Begin ─▶ active/ID.json, runs/YYYY-MM/ID.log      while the run goes on
//	End   ─▶ index (one line), runs/YYYY-MM/ID.log.zst   and active/ID.json goes away
//
// A record is written and synced where it goes before it is removed where it was, so a crash leaves
// it in two places and never in none; reading shows it once. Readers take no lock: an active record
// is a file of its own that appears whole, the index only grows or is replaced by rename. Writers of
// the index hold the file lock of the list. A run whose process is gone without having called End is
// given its state by Settle.
package logs

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

var (
	// ErrNoRun says that no run has the id asked for.
	ErrNoRun = errors.New("no such run")
	// ErrAmbiguous says that several runs have ids that begin as asked.
	ErrAmbiguous = errors.New("several runs begin so")
	// ErrDamaged says that a record cannot be read; the others can.
	ErrDamaged = errors.New("damaged record")
)

// A List is the list of runs kept in one directory. It holds nothing open, and its methods may be
// called from any goroutine and any number of processes.
type List struct {
	dir      string
	patience time.Duration // how long to wait for the lock
}

// Open returns the list kept in dir. A directory that is not there is an empty list; the first run
// makes it, for its user alone.
func Open(dir string) (*List, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the run list: %w", err)
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("opening the run list: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("opening the run list: %s is not a directory", dir)
	}
	return &List{dir: dir, patience: 10 * time.Second}, nil
}

// A Filter says which runs are wanted; the zero value wants all.
type Filter struct {
	Profiles []string  // any of these; nil: of every profile
	State    State     // empty: whatever it is
	Since    time.Time // started at this time or later
	Until    time.Time // started before this time
	Limit    int       // at most so many; 0: all
}

func (f Filter) match(run Run) bool {
	return (len(f.Profiles) == 0 || slices.Contains(f.Profiles, run.Profile)) &&
		(f.State == "" || f.State == run.State) &&
		(f.Since.IsZero() || !run.Started.Before(f.Since)) &&
		(f.Until.IsZero() || run.Started.Before(f.Until))
}

// All returns the runs that filter wants, newest first: those going on, the latest begun first, then
// those that ended, the latest ended first. It reads only as far back as the caller and the filter
// ask. What cannot be read comes as an error in its place (ErrDamaged for a record), and the runs
// behind it follow.
func (l *List) All(filter Filter) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		seen := make(map[string]bool)
		for rec, err := range l.records() {
			if err != nil {
				if !yield(Run{}, err) {
					return
				}
				continue
			}
			// Nothing behind this one was indexed later, and nothing starts after it is indexed.
			if !rec.Indexed.IsZero() && rec.Indexed.Before(filter.Since) {
				return
			}
			if seen[rec.ID] || !filter.match(rec.Run) {
				continue
			}
			seen[rec.ID] = true
			if !yield(rec.Run, nil) || len(seen) == filter.Limit {
				return
			}
		}
	}
}

// records returns the active records, then those of the index. A run that ends meanwhile may come
// twice; looking in the other order could miss it.
func (l *List) records() iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		for rec, err := range l.active() {
			if !yield(rec, err) {
				return
			}
		}
		for rec, err := range readIndex(l.indexPath()) {
			if !yield(rec, err) {
				return
			}
		}
	}
}

// Get returns the run with this id, or the only one whose id begins so, or for "latest" the first of
// All. Otherwise the error is ErrNoRun or ErrAmbiguous, and says also what could not be read.
func (l *List) Get(id string) (Run, error) {
	var found Run
	var damage error
	for run, err := range l.All(Filter{}) {
		switch {
		case err != nil:
			damage = errors.Join(damage, err)
		case run.ID == id || id == "latest":
			return run, nil
		case id == "" || !strings.HasPrefix(run.ID, id):
		case found.ID != "":
			return Run{}, fmt.Errorf("%w: %q may be %s or %s", ErrAmbiguous, id, run.ID, found.ID)
		default:
			found = run
		}
	}
	if found.ID == "" {
		return Run{}, errors.Join(fmt.Errorf("%w: %q", ErrNoRun, id), damage)
	}
	return found, nil
}

func (l *List) indexPath() string           { return filepath.Join(l.dir, "index") }
func (l *List) activePath(id string) string { return filepath.Join(l.dir, "active", id+".json") }
func (l *List) logPath(id string) string {
	return filepath.Join(l.dir, "runs", id[:4]+"-"+id[4:6], id+".log")
}
