package sync

import (
	"context"
	"time"

	"rsince/changes"
	"rsince/changes/scan"
	"rsince/changes/writers"
)

// Some write where no watcher hears of it: through shared mappings, loop devices, asynchronous I/O. What
// they have open at the cut is copied as modified, and once more by the run after they let go of it. Unless
// it is mapped, a write renews its ctime when it begins, so that another copy is not needed as long as
// that stays what it was.

// A writing is a file that somebody had open for writing when a run began.
type writing struct {
	Path    []byte       `json:"path"`
	Version scan.Version `json:"version"`
	Mapped  bool         `json:"mapped,omitempty"`
}

// unseenMax is how much is remembered of what could not be looked at.
const unseenMax = 20

// addWriting puts in doubt what somebody has, or had at the run before, open for writing.
func (r *run) addWriting(ctx context.Context, p *planner) error {
	found, err := writers.Find(ctx, r.source)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		found.Unseen = append(found.Unseen, err.Error())
	}
	for _, unseen := range found.Unseen {
		r.say("what is open for writing is not all known: %s", unseen)
	}
	before := map[string]writing{}
	for _, w := range r.memory.Writing {
		before[string(w.Path)] = w
	}
	r.unseen = found.Unseen[:min(len(found.Unseen), unseenMax)]
	for _, f := range found.Files {
		if f.Path == "" {
			p.add(f.Change)
			continue
		}
		w := r.writing(f)
		r.open = append(r.open, w)
		was, known := before[f.Path]
		delete(before, f.Path)
		if !known || w.Mapped || was.Mapped || r.written(w, was) {
			p.add(f.Change)
		}
	}
	for path := range before {
		p.add(changes.Change{Path: path, Kind: changes.Content, Since: time.Now()})
	}
	return nil
}

func (r *run) writing(f writers.File) writing {
	w := writing{Path: []byte(f.Path), Mapped: f.Mapped}
	if st, err := r.tree.stat(f.Path); err == nil {
		w.Version = scan.VersionOf(&st)
	}
	return w
}

// written reports whether a file may have been written to since the run before.
func (r *run) written(is, was writing) bool {
	st, err := r.tree.stat(string(is.Path))
	return err != nil || is.Version != was.Version || !time.Unix(st.Ctim.Unix()).Before(r.memory.Copied.Add(-ctimeMargin))
}

// Unseen tells what the last run of the profile with this directory could not look at when it looked for
// files open for writing.
func Unseen(dir string) ([]string, error) {
	m, err := recall(dir)
	if err != nil {
		return nil, err
	}
	return m.Unseen, nil
}
