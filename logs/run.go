package logs

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"time"
	"unicode/utf8"
)

// A State says how far a run is, or how it ended.
type State string

const (
	Running     State = "running"     // it has not ended yet
	OK          State = "ok"          // all was done
	Partial     State = "partial"     // done, but some paths failed
	Failed      State = "failed"      // not done
	Refused     State = "refused"     // by a guard, nothing was changed
	Skipped     State = "skipped"     // source or target absent, or the target's lock held
	Interrupted State = "interrupted" // by a signal
	Unknown     State = "unknown"     // its process went away without a word
)

// Verify is the mode of a run that compares and copies nothing.
const Verify = "verify"

// Ended reports whether s is one of the states in which a run can end.
func (s State) Ended() bool {
	switch s {
	case OK, Partial, Failed, Refused, Skipped, Interrupted, Unknown:
		return true
	}
	return false
}

// Failure reports whether a run that ended so was tried and did not do all it should.
func (s State) Failure() bool { return s.Ended() && s != OK && s != Skipped }

// A Run is the record of one execution of one profile. Its JSON is what programs may rely on: fields
// are added, never renamed.
type Run struct {
	ID       string `json:"id"`
	Profile  string `json:"profile"`
	State    State  `json:"state"`
	Mode     string `json:"mode"`     // changes, gap, full or verify; empty when it ended before that was decided
	Reason   string `json:"reason"`   // for a full or gap run; empty for others
	Engine   string `json:"engine"`   // rsync or builtin
	Backend  string `json:"backend"`  // the watcher's
	Snapshot string `json:"snapshot"` // the source was frozen in; empty: it was not

	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"` // of an unknown end, when the log was last written to

	Listed       int    `json:"listed"` // entries after reduction
	Created      int    `json:"created"`
	Updated      int    `json:"updated"`
	Deleted      int    `json:"deleted"`
	Moved        int    `json:"moved"`
	Bytes        int64  `json:"bytes"`            // of file contents written to the target
	Errors       int    `json:"errors"`           // paths that failed
	Missed       int    `json:"missed,omitempty"` // differences that nobody had told of, of a verification or a full run
	PendingAfter int    `json:"pending_after"`    // changes left in the journal; -1: not known
	Message      string `json:"message"`          // one line of at most 4096 bytes; End makes it so
}

// A record is a run as it is written to disk.
type record struct {
	Run
	// Owner is the process that runs it; only active records need it.
	Owner Owner `json:"owner,omitzero"`
	// Indexed is when the record was written into the index: no earlier than Started, nor than
	// Indexed of the record before it, whatever the clock did.
	Indexed time.Time `json:"indexed,omitzero"`
}

const (
	idTime   = "20060102T150405Z"
	idLength = len(idTime) + len("-4f2a")
)

// newID returns an id for a run that starts now: ids sort by that second, in UTC because local time
// goes back once a year.
func newID(now time.Time) string {
	var suffix [2]byte
	rand.Read(suffix[:])
	return now.UTC().Format(idTime) + "-" + hex.EncodeToString(suffix[:])
}

// parseID returns the second in which the run with this id started, and whether it is an id at all:
// a string that becomes part of a file name must be.
func parseID(id string) (started time.Time, ok bool) {
	if len(id) != idLength || id[len(idTime)] != '-' {
		return time.Time{}, false
	}
	started, err := time.Parse(idTime, id[:len(idTime)])
	if err != nil {
		return time.Time{}, false
	}
	_, err = hex.DecodeString(id[len(idTime)+1:])
	return started, err == nil
}

const maxMessage = 4096

// oneLine returns message without line breaks and short enough for a record.
func oneLine(message string) string {
	message = strings.Join(strings.FieldsFunc(message, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
	if len(message) <= maxMessage {
		return message
	}
	cut := maxMessage - len("…")
	for cut > 0 && !utf8.RuneStart(message[cut]) {
		cut--
	}
	return message[:cut] + "…"
}
