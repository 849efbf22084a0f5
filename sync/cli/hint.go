package cli

import (
	"errors"
	"io/fs"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/logs"
	rsincesync "rsince/sync"
	"rsince/sync/profile"
	"rsince/sync/rsync"
)

// profileError is an error that concerns this profile, for a hint that names it.
type profileError struct {
	profile *profile.Profile
	err     error
	checked bool // it came of looking only, there was no run
}

func (e *profileError) Error() string { return e.err.Error() }
func (e *profileError) Unwrap() error { return e.err }

// advised is an error with a hint that only who met it can give.
type advised struct {
	err  error
	hint string
}

func (e *advised) Error() string { return e.err.Error() }
func (e *advised) Unwrap() error { return e.err }

// hint says what to do about an error; empty if there is nothing to say.
func (w *world) hint(err error) string {
	about := &profileError{profile: &profile.Profile{Name: "PROFILE", File: "PROFILE.toml"}}
	errors.As(err, &about)
	var given *advised
	var refused *rsincesync.RefusedError
	var locked *rsincesync.LockedError
	var skipped *rsincesync.SkippedError
	var memory *rsincesync.MemoryError
	var said *rsync.ExitError
	switch {
	case errors.As(err, &given):
		return given.hint
	case errors.As(err, &refused):
		return "if that is what you want: " + w.syncCommandLine(about.profile, strings.Fields(refused.Lift)...)
	case errors.As(err, &locked):
		return w.syncCommandLine(about.profile, "--wait", "10m") + " waits for it; " + w.commandLine("runs", "--state", "running") + " shows it"
	case errors.Is(err, rsync.ErrUnreachable) && !about.profile.Target.Local():
		return "as the user who runs rsince, try: " + tryTarget(about.profile)
	case errors.As(err, &skipped):
		return w.hintOfSkipped(about)
	case errors.As(err, &memory):
		return "move " + memory.File + " away: the next run is then as a first one, which compares everything and deletes nothing that it finds without being asked"
	case errors.Is(err, rsync.ErrStalled):
		return "the changes are still pending; `stall` in the profile says how long an rsync may be without progress"
	case errors.Is(err, exec.ErrNotFound):
		return "install rsync: apt-get install rsync"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "make room, then run again; all changes are still pending"
	case errors.Is(err, logs.ErrNoRun), errors.Is(err, logs.ErrAmbiguous):
		return w.commandLine("runs") + " lists them"
	case errors.Is(err, changes.ErrSilent):
		return "it was stopped or hangs; restart it, and the next run carries what it has not told yet"
	case errors.Is(err, changes.ErrBusy):
		return "a watcher that does not answer writes it; restart that watcher"
	case errors.As(err, &said) && (errors.Is(said, fs.ErrPermission) || errors.Is(said, unix.EROFS)):
		return "it takes a user who may write to the target, or a target mounted to be written to"
	}
	return ""
}

func (w *world) hintOfSkipped(about *profileError) string {
	switch {
	case about.checked:
		return "mount or make it"
	case oneShot(about.profile):
		return "mount or make it, then run again. Nothing was changed"
	}
	return "mount or make it, then run again; " + w.commandLine("check", about.profile.Name) +
		" tells whether it is there. Nothing was changed, all changes are still pending"
}

// oneShot reports whether p was made of a source and a target on the command line.
func oneShot(p *profile.Profile) bool { return p.File == "" }

// syncCommandLine is the command line that runs p with these options.
func (w *world) syncCommandLine(p *profile.Profile, options ...string) string {
	args := append([]string{"sync"}, options...)
	if oneShot(p) {
		return w.commandLine(append(args, p.Source, p.Target.String())...)
	}
	return w.commandLine(append(args, p.Name)...)
}

// commandLine is a command line of rsince for a shell, with the directories that this one was given.
func (w *world) commandLine(args ...string) string {
	return shellLine(slices.Concat([]string{"rsince"}, w.flags, args)...)
}

// tryTarget is a command line that meets the other machine as rsync does.
func tryTarget(p *profile.Profile) string {
	if p.Target.Daemon {
		return shellLine("rsync", p.Target.String())
	}
	shell := "ssh"
	for _, option := range p.RsyncOptions {
		for _, name := range []string{"--rsh=", "-e"} {
			if value, ok := strings.CutPrefix(option, name); ok && value != "" {
				shell = value
			}
		}
	}
	return shell + " " + shellLine(p.Target.Host, "true")
}

// shellLine quotes words for a shell.
func shellLine(words ...string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./:=@%+,"
	quoted := make([]string, len(words))
	for i, word := range words {
		switch {
		case word != "" && strings.Trim(word, plain) == "":
			quoted[i] = word
		case printable(word) == word:
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		default: // bash, ksh and zsh know these quotes
			quoted[i] = "$'" + printable(strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(word)) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
