// Package profile reads profiles, the TOML files that say what is copied where and how, and decides
// what makes one valid.
//
//	file ─▶ settings: values and lines ─▶ keys: each into its field ─▶ check: what is wrong, and why
//
// Everything that is wrong with a file is reported at once, each with its line, its key and what is
// allowed.
package profile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"rsince/sync/filter"
)

// A Profile says what is copied where, and how. Default returns one with every default.
type Profile struct {
	// Name is the name of the file without ".toml"; empty for a profile that is not in a file.
	Name string
	File string
	// Source is an absolute, clean path on this machine. It may lead through symlinks.
	Source string
	Target Target
	// Include and Exclude are rsync's patterns; Include is tried before Exclude.
	Include, Exclude []string
	// Filter is Include and Exclude as rules; nil when there are none.
	Filter        *filter.Rules
	OneFileSystem bool
	Engine        string // "auto" or "rsync"
	// RsyncOptions are whole arguments that are added to rsync's command line.
	RsyncOptions []string
	Stall        time.Duration // an engine without progress for so long is ended
	FullEvery    time.Duration // everything is compared at least this often; 0: never
	MaxDelete    Limit
	Watch        Watch
	Snapshot     Snapshot
	Logs         Logs
	Priority     Priority
}

// Watch says how changes of the source are heard of.
type Watch struct {
	Backend string // "auto", "fanotify", "inotify" or "none"
}

// Snapshot says how the source is frozen during a run.
type Snapshot struct {
	Kind string // "none"
	Size string // of a classic LVM snapshot: per cent of the origin ("10%") or a size ("4GiB")
}

// Logs says what is kept of past runs.
type Logs struct {
	KeepRuns int // records
}

// Priority says how much a run may be in the way of others.
type Priority struct {
	Nice int    // as for nice(1), -20 to 19
	IO   string // I/O scheduling class: "idle", "best-effort" or "none" for that of the caller
}

// Default returns the profile of source, an absolute and clean path, and target with every other key
// at its default. It has no name and is not checked: Validate does that.
func Default(source string, target Target) *Profile {
	return &Profile{
		Source:        source,
		Target:        target,
		OneFileSystem: true,
		Engine:        "auto",
		Stall:         10 * time.Minute,
		FullEvery:     7 * 24 * time.Hour,
		MaxDelete:     Percent(25),
		Watch:         Watch{Backend: "auto"},
		Snapshot:      Snapshot{Kind: "none", Size: "10%"},
		Logs:          Logs{KeepRuns: 10000},
		Priority:      Priority{Nice: 10, IO: "idle"},
	}
}

// Fingerprint is a hash of everything that decides what the target should hold. When it is not that
// of the last full run, the next run compares everything: nothing was recorded about files that are
// copied only now.
func (p *Profile) Fingerprint() string {
	hash := sha256.New()
	fmt.Fprintf(hash, "%q %q %q %q %t %q",
		p.Source, p.Target.String(), p.Include, p.Exclude, p.OneFileSystem, p.RsyncOptions)
	return hex.EncodeToString(hash.Sum(nil))
}
