package changes

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// heartbeat is the content of the file `known`, one line of fixed length that is overwritten in
// place: a crash leaves the old one or the new one, and an old one only makes a gap longer.
type heartbeat struct {
	Until time.Time `json:"until"`
}

const heartbeatLen = 128

// KnownUntil returns the moment before which every change of the source is either in the journal or
// was copied; the zero time if that is not known.
func KnownUntil(dir string) time.Time {
	data, err := os.ReadFile(filepath.Join(dir, "known"))
	var beat heartbeat
	if err != nil || len(data) != heartbeatLen || decodeLine(data, &beat) != nil {
		return time.Time{}
	}
	return beat.Until
}

// unwatched is the gap from the last moment of which all is known, in dir, until now.
func unwatched(reason, dir string) Gap {
	gap := Gap{Reason: reason, Subtree: ".", Since: KnownUntil(dir)}
	switch {
	case gap.Since.IsZero():
		gap.Reason = "it was never watched before"
	case gap.Since.After(time.Now()):
		gap.Reason = reason + ", and the clock was set back"
	}
	return gap
}

func setKnownUntil(dir string, until time.Time) error {
	line, err := encodeLine(heartbeat{Until: until.Round(0)}, heartbeatLen)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, "known"), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(line, 0)
	return errors.Join(err, f.Close())
}
