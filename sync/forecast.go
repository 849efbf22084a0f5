package sync

import "rsince/sync/rsync"

// A forecast gathers what a dry run says would be done. Several of its passes tell of one name,
// because none of them has changed it for the next.
type forecast struct {
	items func(rsync.Item) // nil: nobody wants to know

	told  set // action and path
	total rsync.Result
}

func (f *forecast) take(item rsync.Item) {
	key := item.Action.String() + " " + item.Path
	if f.told.has(key) {
		return
	}
	f.told.add(key)
	f.total.Bytes += item.Bytes
	switch {
	case item.Action == rsync.Create:
		f.total.Created++
	case item.Action == rsync.Delete:
		f.total.Deleted++
	case item.Changes != ".d..t......": // a directory's time follows from what is in it
		f.total.Updated++
	}
	if f.items != nil {
		f.items(item)
	}
}

// count corrects the numbers that were added up over all passes.
func (f *forecast) count(r *rsync.Result) {
	r.Created, r.Updated, r.Deleted, r.Bytes = f.total.Created, f.total.Updated, f.total.Deleted, f.total.Bytes
}
