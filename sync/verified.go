package sync

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Verified is what a profile's last verification, or a full run that counted what was missed, leaves to be shown later.
type Verified struct {
	At       time.Time `json:"at"`
	Run      string    `json:"run"` // the id of its record, whose log has the differences
	Missed   int       `json:"missed"`
	Checksum bool      `json:"checksum"`
	Repaired bool      `json:"repaired"`       // the differences were put into the journal
	Full     bool      `json:"full,omitempty"` // it was a full run, which has mended them
}

func verifiedFile(dir string) string { return filepath.Join(dir, "verified.json") }

// LastVerified returns the last verification of the profile with this directory; nil if there was none.
func LastVerified(dir string) (*Verified, error) {
	data, err := os.ReadFile(verifiedFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	v := &Verified{}
	text, err := summed(data)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s, which the last verification left: %w", verifiedFile(dir), err)
	}
	return v, nil
}

func (v *Verified) save(dir string) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := writeSummed(verifiedFile(dir), append(data, '\n')); err != nil {
		return fmt.Errorf("remembering the verification: %w", err)
	}
	return nil
}
