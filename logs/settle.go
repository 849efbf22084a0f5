package logs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rsince/changes/durable"
)

// Settle gives every run whose process is gone its end: the one its record or the last line of its
// log tells, else Unknown. It is for whoever looks at the list next, and costs a glance at the runs
// that go on when there is nothing to settle.
func (l *List) Settle() error {
	dead, err := l.dead()
	if len(dead) == 0 {
		return errors.Join(err, l.sweepActive())
	}
	unlock, lockErr := l.lock()
	if lockErr != nil {
		return errors.Join(err, lockErr)
	}
	// Again, now that nobody else can be settling them.
	dead, err = l.dead()
	for _, rec := range dead {
		if settleErr := l.settle(rec); settleErr != nil {
			err = errors.Join(err, fmt.Errorf("settling run %s: %w", rec.ID, settleErr))
		}
	}
	return errors.Join(err, l.sweepActive(), unlock())
}

// dead returns the runs whose process is gone. Those of an unknown end are given one for the case
// that their log does not know better.
func (l *List) dead() (dead []record, err error) {
	for rec, readErr := range l.active() {
		if errors.Is(readErr, ErrDamaged) {
			rec.State, rec.Message = Unknown, "its record was damaged"
			dead = append(dead, rec)
			continue
		}
		why, ownerErr := rec.Owner.Ended()
		if err = errors.Join(err, readErr, ownerErr); readErr != nil || ownerErr != nil || why == "" {
			continue
		}
		if !rec.State.Ended() {
			rec.State, rec.Message = Unknown, why
		}
		dead = append(dead, rec)
	}
	return dead, err
}

// settle does what is left of End for a run that is dead. The caller holds the lock.
func (l *List) settle(rec record) error {
	said, ok := parseEnd(l.lastLine(rec.ID), rec.ID)
	if ok && rec.State == Unknown {
		rec.State, rec.Ended, rec.Message = said.State, said.Ended, said.Message
	}
	if rec.Ended.IsZero() {
		rec.Ended = l.lastWrite(rec.Run)
	}
	end := ""
	if !ok {
		end = endLine(rec.Run)
	}
	return errors.Join(l.makeLog(rec.ID), l.compress(rec.ID, end), l.move(rec))
}

// makeLog gives a run that was killed before it could an empty log, to hold its end.
func (l *List) makeLog(id string) error {
	if l.hasLog(id) {
		return nil
	}
	path := l.logPath(id)
	if err := durable.MakeDir(filepath.Dir(path)); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o600)
}

// lastLine returns the last whole line of a log, empty if there is none.
func (l *List) lastLine(id string) string {
	r, err := l.openLog(id)
	if err != nil {
		return ""
	}
	defer r.Close()
	last := ""
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return strings.TrimSuffix(last, "\n")
		}
		if err != nil {
			return ""
		}
		last = line
	}
}

// lastWrite returns when the run is last known to have gone on.
func (l *List) lastWrite(run Run) time.Time {
	info, err := os.Stat(l.logPath(run.ID))
	if err != nil {
		return run.Started
	}
	return info.ModTime().UTC()
}
