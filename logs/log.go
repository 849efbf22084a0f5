package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"rsince/changes/durable"
)

// A Log is the log of a run that goes on. What is written to it is in its file when the call
// returns; Write and Printf may be called from any goroutine.
type Log struct {
	list  *List
	owner Owner

	mu     sync.Mutex
	run    Run
	active *os.File // nil: there is none
	file   *os.File // nil: could not be opened yet, or closed
	inLine bool     // the last byte written was no newline
	lost   int64    // bytes that could not be written
	lostTo error    // why the first of them could not
	closed bool     // the last line has been written
	ended  bool     // the record is in the index
}

// Begin gives a run of this profile an id, a record and a log, durable when it returns. The Log is
// never nil: where there is an error the run can go on all the same, and End tries again to write
// what Begin could not.
func (l *List) Begin(profile string) (*Log, error) {
	log := &Log{list: l}
	var ownerErr error
	log.owner, ownerErr = Self()
	now := time.Now().UTC()
	log.run = Run{Profile: profile, State: Running, Started: now, PendingAfter: -1}
	err := log.enter(now)
	if err == nil {
		err = log.open()
	}
	if err = errors.Join(ownerErr, err); err != nil {
		return log, fmt.Errorf("recording a run of %s: %w", profile, err)
	}
	return log, nil
}

// enter finds an id that is free and makes the active record.
func (log *Log) enter(now time.Time) error {
	for {
		log.run.ID = newID(now)
		if log.list.hasLog(log.run.ID) {
			continue
		}
		active, err := log.list.createActive(record{Run: log.run, Owner: log.owner})
		if errors.Is(err, os.ErrExist) {
			continue
		}
		log.active = active
		return err
	}
}

func (log *Log) open() error {
	path := log.list.logPath(log.run.ID)
	if err := durable.MakeDir(filepath.Dir(path)); err != nil {
		return err
	}
	var err error
	log.file, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	return err
}

// Run returns what is known of the run: a start for what End is to be told.
func (log *Log) Run() Run {
	log.mu.Lock()
	defer log.mu.Unlock()
	return log.run
}

// Write appends p to the log. It fails only after End: what the disk does not take is lost from the
// log, and End says so, because a run is more important than its log.
func (log *Log) Write(p []byte) (int, error) {
	log.mu.Lock()
	defer log.mu.Unlock()
	if log.closed {
		return 0, fmt.Errorf("writing the log of run %s: %w", log.run.ID, os.ErrClosed)
	}
	log.write(p)
	return len(p), nil
}

// Printf appends a line of its own with the time in front.
func (log *Log) Printf(format string, args ...any) {
	log.mu.Lock()
	defer log.mu.Unlock()
	if !log.closed {
		log.writeLine(stamp(time.Now(), fmt.Sprintf(format, args...)))
	}
}

func (log *Log) writeLine(line string) {
	if log.inLine {
		line = "\n" + line
	}
	log.write([]byte(line))
}

func (log *Log) write(p []byte) {
	if len(p) == 0 {
		return
	}
	n, err := log.tryWrite(p)
	if n > 0 {
		log.inLine = p[n-1] != '\n'
	}
	if err != nil {
		log.lost += int64(len(p) - n)
		if log.lostTo == nil {
			log.lostTo = err
		}
	}
}

func (log *Log) tryWrite(p []byte) (int, error) {
	if log.file == nil {
		if err := log.open(); err != nil {
			return 0, err
		}
	}
	return log.file.Write(p)
}

// Update notes what has become known of the run while it goes on (its mode, say), so that the list
// shows it also if the run is killed. The id, profile, state and start stay what they are.
func (log *Log) Update(run Run) error {
	log.mu.Lock()
	defer log.mu.Unlock()
	log.keep(run, Running)
	if err := log.note(); err != nil {
		return fmt.Errorf("updating the record of run %s: %w", log.run.ID, err)
	}
	return nil
}

// keep takes over what the caller knows of the run and has no say in.
func (log *Log) keep(run Run, state State) {
	run.ID, run.Profile, run.Started = log.run.ID, log.run.Profile, log.run.Started
	run.State = state
	run.Message = oneLine(run.Message)
	log.run = run
}

// note appends what is known of the run to its active record.
func (log *Log) note() error {
	if log.active == nil {
		return nil
	}
	line, err := encodeLine(record{Run: log.run, Owner: log.owner})
	if err != nil {
		return err
	}
	_, err = log.active.Write(line)
	return err
}

const stampTime = "2006-01-02T15:04:05.000Z07:00"

// stamp returns text as a line of the log.
func stamp(t time.Time, text string) string { return t.Format(stampTime) + " " + text + "\n" }
