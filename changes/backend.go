package changes

import (
	"context"
	"slices"
	"strings"
)

// A Source is a directory tree to be watched.
type Source struct {
	// Path is absolute, clean, and free of symlinks.
	Path string
	// OneFileSystem leaves out whatever is mounted below Path.
	OneFileSystem bool
	// Skip lists absolute paths that are never recorded, nor anything below them: the target and
	// rsince's own directories.
	Skip []string
}

// Rel returns path relative to the source in the form of a Change's Path, and whether the source
// covers it: that path is the source or below it, and not in Skip.
func (s Source) Rel(path string) (rel string, ok bool) {
	for _, skip := range s.Skip {
		if within(path, skip) {
			return "", false
		}
	}
	if !within(path, s.Path) {
		return "", false
	}
	rel = strings.TrimPrefix(path[len(s.Path):], "/")
	if s.Path == "/" {
		rel = path[1:]
	}
	if rel == "" {
		rel = "."
	}
	return rel, true
}

// Same reports whether both name the same paths.
func (s Source) Same(o Source) bool {
	return s.Path == o.Path && s.OneFileSystem == o.OneFileSystem && slices.Equal(s.Skip, o.Skip)
}

// within reports whether path is dir or below it; both are absolute and clean.
func within(path, dir string) bool {
	if dir == "/" {
		return true
	}
	return strings.HasPrefix(path, dir) && (len(path) == len(dir) || path[len(dir)] == '/')
}

// A Recorder takes what a backend notices. Its methods may be called from any goroutine, return
// quickly and do not fail: a Recorder that cannot keep what it was told says so when it is cut.
type Recorder interface {
	// Record notes that path, relative to the source, is in doubt.
	Record(path string, kind Kind)
	// RecordRename notes that from became to, both in this source; a directory with all below it.
	RecordRename(from, to string, dir bool)
	// RecordFile notes that the regular file with this handle was written, when no name of it is
	// known.
	RecordFile(handle Handle)
	// RecordGap notes that changes may have been missed. Gap.Until may be zero: until now.
	RecordGap(gap Gap)
}

// A Backend is a way to hear from the kernel about changes.
type Backend interface {
	// Name is the word for it in profiles and in status.
	Name() string
	// Watch begins to watch source and to tell rec. When it returns without an error, every later
	// change is noticed. The error says why this backend cannot watch this source.
	Watch(ctx context.Context, source Source, rec Recorder) (Watch, error)
}

// A Watch is a source being watched.
type Watch interface {
	// Drain returns when everything that finished before the call has been told to the Recorder.
	Drain(ctx context.Context) error
	// Close ends the watch; nothing is told to the Recorder after it returns.
	Close() error
}
