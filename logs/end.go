package logs

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// End writes down how the run ended, durably: its state into the last line of the log, the log
// compressed, the record in the index. run.State must be one a run can end in; id, profile and start
// are what Begin gave; Ended may be left zero. After an error it may be called again; else Settle
// does what is left to do once this process is gone, if the disk took at least the active record.
func (log *Log) End(run Run) error {
	log.mu.Lock()
	defer log.mu.Unlock()
	if !run.State.Ended() {
		return fmt.Errorf("ending run %s: %q is no state to end in", log.run.ID, run.State)
	}
	if log.ended {
		return nil
	}
	if run.Ended.IsZero() {
		run.Ended = time.Now().UTC()
	}
	log.keep(run, run.State)
	// Each step is tried whatever became of those before it.
	err := errors.Join(log.noteEnd(), log.close(), log.list.compress(log.run.ID, ""), log.index())
	if err != nil {
		return fmt.Errorf("recording the end of run %s: %w", log.run.ID, err)
	}
	return nil
}

// noteEnd makes the end durable in the active record: from here on a crash changes nothing of it.
func (log *Log) noteEnd() error {
	if log.active == nil {
		return nil
	}
	return errors.Join(log.note(), log.active.Sync())
}

// close writes the last line and closes the log.
func (log *Log) close() error {
	if log.closed {
		return nil
	}
	if log.lost > 0 {
		log.writeLine(stamp(time.Now(), fmt.Sprintf("%d bytes of this log were lost: %v", log.lost, log.lostTo)))
	}
	log.writeLine(endLine(log.run))
	log.closed = true
	var err error
	if log.file != nil {
		err = log.file.Close()
	}
	if log.lost > 0 {
		err = errors.Join(err, fmt.Errorf("%d bytes of the log were lost: %w", log.lost, log.lostTo))
	}
	return err
}

// index moves the record from active into the index.
func (log *Log) index() error {
	unlock, err := log.list.lock()
	if err != nil {
		return err
	}
	err = errors.Join(log.list.move(record{Run: log.run}), unlock())
	if err != nil {
		return err
	}
	log.ended = true
	if log.active == nil {
		return nil
	}
	return log.active.Close()
}

// move writes rec into the index and removes its active record. The caller holds the lock.
func (l *List) move(rec record) error {
	if err := l.addToIndex(rec); err != nil {
		return fmt.Errorf("writing the run list: %w", err)
	}
	if err := os.Remove(l.activePath(rec.ID)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// endLine returns the last line of the log of a run that ended. The id is in it so that no output of
// a copied tree's making, a file name say, can be taken for it.
func endLine(run Run) string {
	text := fmt.Sprintf("run %s ended: %s", run.ID, run.State)
	if run.Message != "" {
		text += ": " + run.Message
	}
	return stamp(run.Ended.Local(), text)
}

// parseEnd returns what endLine wrote of the run with this id; ok is false if line says nothing.
func parseEnd(line, id string) (end Run, ok bool) {
	when, text, _ := strings.Cut(line, " ")
	text, isEnd := strings.CutPrefix(text, "run "+id+" ended: ")
	state, message, _ := strings.Cut(text, ": ")
	t, err := time.Parse(stampTime, when)
	if !isEnd || err != nil || !State(state).Ended() {
		return Run{}, false
	}
	return Run{ID: id, State: State(state), Ended: t.UTC(), Message: message}, true
}
