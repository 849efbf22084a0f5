package cli

import (
	"errors"
	"io/fs"
	"os/exec"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/logs"
	rsincesync "rsince/sync"
	"rsince/sync/rsync"
)

// profileError is an error of a run of this profile, for a hint that names it.
type profileError struct {
	name string
	err  error
}

func forProfile(err error, name string) error { return &profileError{name, err} }

func (e *profileError) Error() string { return e.err.Error() }
func (e *profileError) Unwrap() error { return e.err }

// hint says what to do about an error; empty if there is nothing to say.
func hint(err error) string {
	profile := "PROFILE"
	var of *profileError
	if errors.As(err, &of) {
		profile = of.name
	}
	var refused *rsincesync.RefusedError
	var locked *rsincesync.LockedError
	var skipped *rsincesync.SkippedError
	var memory *rsincesync.MemoryError
	switch {
	case errors.As(err, &refused):
		return "if that is what you want: rsince sync " + refused.Lift + " " + profile
	case errors.As(err, &locked):
		return "rsince sync --wait 10m waits for it; rsince runs --state running shows it"
	case errors.As(err, &skipped):
		return "mount or make it, then run again; rsince check " + profile + " tells whether it is there. Nothing was changed, all changes are still pending"
	case errors.As(err, &memory):
		return "move " + memory.File + " away: the next run is then as a first one, which compares everything and deletes nothing that it finds without being asked"
	case errors.Is(err, rsync.ErrStalled):
		return "the changes are still pending; `stall` in the profile says how long an rsync may be without progress"
	case errors.Is(err, exec.ErrNotFound):
		return "install rsync: apt-get install rsync"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "make room, then run again; all changes are still pending"
	case errors.Is(err, logs.ErrNoRun), errors.Is(err, logs.ErrAmbiguous):
		return "rsince runs lists them"
	case errors.Is(err, changes.ErrBusy):
		return "a watcher that does not answer writes it; restart that watcher"
	}
	var usage *usageError
	if errors.As(err, &usage) && errors.Is(err, fs.ErrNotExist) {
		return "rsince init SOURCE TARGET writes a profile; --config DIR reads others"
	}
	return ""
}
