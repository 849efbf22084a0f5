package sync

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rsince/sync/rsync"
)

// memory is what one run of a profile leaves for the next.
type memory struct {
	Version int `json:"version"`
	// Fingerprint of the profile at the last full run; another one makes the next run full.
	Fingerprint string   `json:"fingerprint"`
	Source      identity `json:"source"`
	Target      identity `json:"target"` // zero for a target that cannot be asked
	// Destination is the profile's target at the last run, as rsync takes it.
	Destination string    `json:"destination,omitempty"`
	LastFull    time.Time `json:"last_full,omitzero"`
	// Copied is the moment before which every change was copied: the cut of the last run, or, if
	// that left something in the journal, an earlier one. Until a run has come to its end, it is the cut
	// of the first that began to copy.
	Copied time.Time `json:"copied,omitzero"`
	// Misheard says that the last run's watcher watched another source than the profile's: until when it
	// knows everything is of no use.
	Misheard bool `json:"misheard,omitempty"`
	// Earlier are the targets that were copied to before this one, the last first.
	Earlier []earlierTarget `json:"earlier,omitempty"`
	// Entries of the source at the last full run, or when the first one began, kept current since.
	Entries      int                 `json:"entries"`
	Probed       string              `json:"probed"` // the target that Capabilities are of
	Capabilities *rsync.Capabilities `json:"capabilities,omitempty"`
	// Begun says that a first run has begun to copy: what the target holds is its, but for Existing.
	Begun bool `json:"begun,omitempty"`
	// Existing are names on the target that were there before the first run, and that runs of a source
	// and a target without a profile keep. A directory has a slash at its end and stands for all below it.
	Existing [][]byte `json:"existing,omitempty"`
	// Layers are the directories that were upper ones of overlays at the last run.
	Layers [][]byte `json:"layers,omitempty"`
	// Mounts is what was mounted in the target at the last run.
	Mounts []targetMount `json:"mounts,omitempty"`
	// Writing are the files that somebody had open for writing at the last run.
	Writing []writing `json:"writing,omitempty"`
	// Unseen says where the last run could not look for such files.
	Unseen []string `json:"unseen,omitempty"`
	// Owed tells why the next run has to be full, whatever else holds; empty: it need not.
	Owed string `json:"owed,omitempty"`
	// Unwritten says that a full run could not make durable what it had written: the target may show contents
	// that its disk does not have.
	Unwritten bool `json:"unwritten,omitempty"`
	// Replaced says that another source than this one was copied to this target, by this profile until another one was
	// accepted or by a run of another profile, and that no full run has come to its end since: of no file the content
	// there is known to be this source's.
	Replaced bool `json:"replaced,omitempty"`
	// Unfinished is set while a run writes to the target: found set, a run died in the middle, or an
	// rsync of it did or could not remove them, and may have left temporary files beside what it was copying.
	Unfinished bool `json:"unfinished"`

	file string
}

// memoryVersion is that of a memory in which a field has the meaning it has here.
const memoryVersion = 1

// A MemoryError says that what the run before left cannot be read.
type MemoryError struct {
	File string
	Err  error
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("reading %s, which the run before left: %v", e.File, e.Err)
}
func (e *MemoryError) Unwrap() error { return e.Err }

// recall reads the memory in dir; where there is none, it is that of a profile that was never run.
// A damaged one is an error: it holds by what source and target are known.
func recall(dir string) (*memory, error) {
	m := &memory{file: filepath.Join(dir, "memory.json"), Version: memoryVersion}
	data, err := os.ReadFile(m.file)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	} else if err != nil {
		return nil, err
	}
	if err := m.decode(data); err != nil {
		return nil, &MemoryError{m.file, err}
	}
	return m, nil
}

// An earlierTarget is one that a profile had until it was given another, or that another disk took the place of.
type earlierTarget struct {
	Target identity `json:"target"`
	// As in memory.
	Copied   time.Time `json:"copied"`
	Existing [][]byte  `json:"existing,omitempty"`
	Replaced bool      `json:"replaced,omitempty"`
}

// earlierMax is how many disks that take turns are remembered.
const earlierMax = 20

// replaceSource has another source take the place of the one before, for all targets that have something of that.
func (m *memory) replaceSource() {
	m.Replaced = m.Replaced || m.Begun
	for i := range m.Earlier {
		m.Earlier[i].Replaced = true
	}
}

// changeTarget has another target take the place of the one before, and reports whether it was one earlier. Copied,
// Existing and Replaced are then its own; of one that was none they are zero.
func (m *memory) changeTarget(id identity) (met bool) {
	before := earlierTarget{m.Target, m.Copied, m.Existing, m.Replaced}
	m.Copied, m.Existing, m.Replaced = time.Time{}, nil, false
	m.Earlier = slices.DeleteFunc(m.Earlier, func(e earlierTarget) bool {
		if id == (identity{}) || !e.Target.same(id) {
			return false
		}
		met, m.Copied, m.Existing, m.Replaced = true, e.Copied, e.Existing, e.Replaced
		return true
	})
	if before.Target != (identity{}) && !before.Copied.IsZero() {
		m.Earlier = slices.Insert(m.Earlier, 0, before)
		m.Earlier = m.Earlier[:min(len(m.Earlier), earlierMax)]
	}
	return met
}

// forgetTarget makes the next run onto another target the first one onto it.
func (m *memory) forgetTarget() {
	m.Target, m.LastFull, m.Begun, m.Existing = identity{}, time.Time{}, false, nil
}

func (m *memory) decode(data []byte) error {
	of := struct{ Version int }{memoryVersion}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&of); err == nil && of.Version != memoryVersion {
		return fmt.Errorf("it is of version %d, written by another release of rsince; this one knows version %d", of.Version, memoryVersion)
	}
	text, err := summed(data)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, m)
}

func (m *memory) save() error {
	data, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return err
	}
	if err := writeSummed(m.file, append(data, '\n')); err != nil {
		return fmt.Errorf("remembering the run: %w", err)
	}
	return nil
}
