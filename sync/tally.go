package sync

import "rsince/sync/rsync"

// A tally gathers what the passes do to the target, or in a dry run would do, each name once. Several come to
// one name: some because others do only part of the work, and in a dry run because nothing was done before.
type tally struct {
	items func(rsync.Item) // nil: nobody wants to know

	copied, deleted set
	remade          set      // names removed from the target to be made anew
	again           set      // of the names told from now on, those that may come again; nil: any
	retimed         []string // directories of which only the time changes
	changed         set      // directories in which something else does
	total           rsync.Result
}

func newTally(items func(rsync.Item)) *tally {
	return &tally{items: items, copied: set{}, deleted: set{}, remade: set{}, changed: set{}}
}

func (t *tally) take(item rsync.Item) {
	told := t.copied
	if item.Action == rsync.Delete {
		told = t.deleted
	}
	if told.has(item.Path) {
		return
	}
	if t.again == nil || t.again.has(item.Path) {
		told.add(item.Path)
	}
	t.total.Bytes += item.Bytes
	switch {
	case item.Changes == onlyTime:
		t.retimed = append(t.retimed, item.Path)
	case item.Action == rsync.Create:
		t.total.Created++
	case item.Action == rsync.Delete:
		t.total.Deleted++
	default:
		t.total.Updated++
	}
	if item.Changes != onlyTime && item.Path != "." {
		t.changed.add(parent(item.Path))
	}
	if t.items != nil {
		t.items(item)
	}
}

// onlyTime is how rsync notes that nothing but the time of a directory changes.
const onlyTime = ".d..t......"

// takeRemade takes a name that is removed from the target to be made anew: the directory it is in gets another
// time by that, and then its own again.
func (t *tally) takeRemade(path string) {
	t.remade.add(path)
	t.take(rsync.Item{Action: rsync.Update, Path: path})
	t.take(rsync.Item{Action: rsync.Update, Path: parent(path), Dir: true, Changes: onlyTime})
}

// count corrects the numbers that were added up over all passes. The time of a directory changes with what is
// in it, which counts already. In a dry run the bytes are those of whole files.
func (t *tally) count(r *rsync.Result, dry bool) {
	r.Created, r.Updated, r.Deleted = t.total.Created, t.total.Updated, t.total.Deleted
	for _, dir := range t.retimed {
		if !t.changed.has(dir) {
			r.Updated++
		}
	}
	if dry {
		r.Bytes = t.total.Bytes
	}
}
