package sync

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"rsince/sync/rsync"
)

// memory is what one run of a profile leaves for the next.
type memory struct {
	// Fingerprint of the profile at the last full run; another one makes the next run full.
	Fingerprint string    `json:"fingerprint"`
	Source      identity  `json:"source"`
	Target      identity  `json:"target"` // zero for a target that cannot be asked
	LastFull    time.Time `json:"last_full,omitzero"`
	// Copied is the moment before which every change was copied: the cut of the last run, or, if
	// that left something in the journal, an earlier one.
	Copied time.Time `json:"copied,omitzero"`
	// Entries of the source at the last full run, kept current since.
	Entries      int                 `json:"entries"`
	Probed       string              `json:"probed"` // the target that Capabilities are of
	Capabilities *rsync.Capabilities `json:"capabilities,omitempty"`
	// Unfinished is set while a run writes to the target: found set, a run died in the middle and
	// may have left temporary files beside what it was copying.
	Unfinished bool `json:"unfinished"`

	file string
}

func recall(dir string) (*memory, error) {
	m := &memory{file: filepath.Join(dir, "memory.json")}
	data, err := os.ReadFile(m.file)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	} else if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("reading %s: %w", m.file, err)
	}
	return m, nil
}

func (m *memory) save() error {
	data, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(m.file, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("remembering the run: %w", err)
	}
	return syncDir(filepath.Dir(m.file))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
