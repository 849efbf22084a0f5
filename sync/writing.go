package sync

import (
	"bytes"
	"context"
	"slices"
	"time"

	"golang.org/x/sys/unix"

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
	r.open, r.unseen = nil, found.Unseen[:min(len(found.Unseen), unseenMax)]
	for _, f := range found.Files {
		switch {
		case f.Path == "" && f.Handle == "":
			p.links.addInode(fileID{f.Device, f.Inode})
			continue
		case f.Path == "":
			p.add(f.Change)
			continue
		}
		st, err := r.tree.stat(f.Path)
		w := writing{Path: []byte(f.Path), Mapped: f.Mapped}
		if err == nil {
			w.Version = scan.VersionOf(&st)
		}
		r.open = append(r.open, w)
		was, known := before[f.Path]
		delete(before, f.Path)
		if err != nil || !known || w.Mapped || was.Mapped || w.Version != was.Version || r.doubted(&st) {
			p.add(f.Change)
		}
	}
	for path := range before {
		p.add(changes.Change{Path: path, Kind: changes.Content, Since: time.Now()})
	}
	return nil
}

// rememberWriting adds what is open for writing now, and the layers, to what was at the last run that came to its end:
// should this one not, the next has to copy both.
func (r *run) rememberWriting() {
	m := r.memory
	known := set{}
	for _, w := range m.Writing {
		known.add(string(w.Path))
	}
	for _, w := range r.open {
		if !known.has(string(w.Path)) {
			m.Writing = append(m.Writing, w)
		}
	}
	layers := slices.SortedFunc(slices.Values(slices.Concat(m.Layers, r.layers)), bytes.Compare)
	m.Layers = slices.CompactFunc(layers, bytes.Equal)
}

// addOverlaid puts in doubt what may have been written through an overlay whose upper directory is in the source, or was at
// the last run, where the kernel tells no watcher.
func (r *run) addOverlaid(ctx context.Context, p *planner) error {
	if !kernelBefore(6, 18) || r.record.Backend == "none" {
		return nil
	}
	layers, err := writers.Layers(r.source)
	if err != nil {
		r.say("%v", err)
		r.unseen = append(r.unseen, err.Error())
	}
	for _, dir := range layers {
		r.layers = append(r.layers, []byte(dir))
	}
	if r.firstRun() {
		return nil
	}
	doubted := setOf(layers)
	for _, dir := range r.memory.Layers {
		doubted.add(string(dir))
	}
	for _, dir := range doubted.sorted() {
		if dir != "." && !r.tree.holds(dir) {
			continue
		}
		r.say("looking for what was written through an overlay to %q, of which this kernel does not tell", dir)
		if err := r.addRenewedBelow(ctx, p, dir); err != nil {
			return err
		}
	}
	return nil
}

// doubted reports whether a write that renewed this ctime may go on still.
func (r *run) doubted(st *unix.Stat_t) bool {
	return !time.Unix(st.Ctim.Unix()).Before(r.memory.Copied.Add(-ctimeMargin))
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
