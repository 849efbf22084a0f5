package sync

import (
	"fmt"
	"os"
	"strings"

	"rsince/changes/durable"
)

// What a run knows of its target holds as long as no run of another profile has copied to it: that may have moved or
// removed what this one takes for copied. So beside the locks of targets stands whose run was the last to write there,
// and whether the target is being asked what it keeps.

// lastFile is where that stands.
func (r *run) lastFile() string { return r.targetFile(".last") }

// targetFile is a file about the target for runs of all profiles. A target is known by what it is: another disk can be
// mounted where it was, or it can have several names; only one that cannot be asked is known by its name.
func (r *run) targetFile(suffix string) string {
	key := r.memory.Target.String()
	if r.memory.Target == (identity{}) {
		ways := waysTo(r.Profile.Target)
		key = ways[len(ways)-1]
	}
	return strings.TrimSuffix(lockPath(r.Locks, key), ".lock") + suffix
}

// lookForOthers makes the run full if that of another profile has copied to the target since, and has it compare contents
// if that was from another source. Where that cannot be told, nobody has: the target may not be known by this name for long.
func (r *run) lookForOthers() {
	last, err := os.ReadFile(r.lastFile())
	if err != nil {
		return
	}
	source, name, _ := strings.Cut(string(last), "\x00")
	if name == r.Profile.Name {
		return
	}
	if source != r.memory.Source.String() {
		r.memory.Replaced = true
	}
	if r.firstRun() {
		return
	}
	r.others = true
	if r.memory.Owed == "" {
		r.memory.Owed = fmt.Sprintf("%s has copied to the target since the last run", name)
	}
}

// noteLast notes durably that this run writes to the target, and from which source. That it is to be full, and whether
// by content, is remembered before.
func (r *run) noteLast() error {
	note := r.memory.Source.String() + "\x00" + r.Profile.Name
	if last, err := os.ReadFile(r.lastFile()); err == nil && string(last) == note {
		return nil
	}
	return durable.WriteFile(r.lastFile(), []byte(note))
}

// probing notes durably that the target is being asked what it keeps. The release says that it was.
func (r *run) probing() (release func() error, err error) {
	file := r.targetFile(".probing")
	if err := durable.WriteFile(file, nil); err != nil {
		return nil, err
	}
	return func() error { return os.Remove(file) }, nil
}

// diedProbing reports whether what asked the target what it keeps has died or failed, whatever profile it was for. It may
// have left its directory there: asking again removes that.
func (r *run) diedProbing() bool {
	_, err := os.Stat(r.targetFile(".probing"))
	return err == nil
}
