package fanotify

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"rsince/changes"
)

// A memory is a Recorder that keeps what it is told.
type memory struct {
	mu    sync.Mutex
	paths map[string]changes.Kind
	files map[changes.Handle]bool
	gaps  []changes.Gap
}

func (m *memory) Record(path string, kind changes.Kind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.paths == nil {
		m.paths = make(map[string]changes.Kind)
	}
	m.paths[path] = max(m.paths[path], kind)
}

func (m *memory) RecordRename(from, to string, dir bool) {
	was, is := changes.Gone, changes.Content
	if dir {
		was, is = changes.Subtree, changes.Subtree
	}
	m.Record(from, was)
	m.Record(to, is)
}

func (m *memory) RecordFile(handle changes.Handle) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files == nil {
		m.files = make(map[changes.Handle]bool)
	}
	m.files[handle] = true
}

func (m *memory) RecordGap(gap changes.Gap) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gaps = append(m.gaps, gap)
}

// take returns all that was recorded as sorted lines and forgets it.
func (m *memory) take() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var lines []string
	for path, kind := range m.paths {
		lines = append(lines, fmt.Sprintf("%s %s", path, kind))
	}
	for range m.files {
		lines = append(lines, "file")
	}
	for _, gap := range m.gaps {
		lines = append(lines, fmt.Sprintf("%s gap: %s", gap.Subtree, gap.Reason))
	}
	slices.Sort(lines)
	m.paths, m.files, m.gaps = nil, nil, nil
	return strings.Join(lines, "\n")
}
