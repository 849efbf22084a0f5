package rsync

import (
	"context"
	"path"
	"slices"
)

// namesPerListing bounds the filter arguments of one rsync: far below the system's two megabytes.
const namesPerListing = 200

// deleteByListing deletes names that are gone without --delete-missing-args: their directories are
// listed with filters that hide and protect everything else in them. A name that has come back is
// seen by both sides and copied.
func (e *Engine) deleteByListing(ctx context.Context, paths []string) (Result, error) {
	paths = slices.Clone(paths)
	slices.Sort(paths)
	var total Result
	for names := range slices.Chunk(paths, namesPerListing) {
		p := pass{
			args:   []string{"--no-r", "--dirs", "--delete", "-I"},
			finds:  true,
			suffix: "/",
		}
		p.list, p.only = listingOnly(names)
		res, err := e.run(ctx, p)
		res.Done = len(names) - res.disown(names)
		total.Add(res)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// listingOnly returns the directories of names, and filters that leave these
// names alone in sight. A listed directory must be in sight of its own parent's listing too.
func listingOnly(names []string) (dirs, filters []string) {
	var hide []string
	shown := map[string]bool{".": true}
	for _, name := range names {
		dir := path.Dir(name)
		for up := dir; !shown[up]; up = path.Dir(up) {
			shown[up] = true
			filters = append(filters, "--filter=+ /"+pattern(up)+"/")
		}
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
			hide = append(hide, "--filter=- "+path.Join("/", wildcards.Replace(dir), "*"))
		}
		filters = append(filters, "--filter=+ /"+pattern(name), "--filter=+ /"+wildcards.Replace(name)+"/**")
	}
	return dirs, append(filters, hide...)
}

// disown makes names whose directory failed or vanished failed ones, and returns how many names failed.
func (r *Result) disown(names []string) int {
	missing := r.missing(true)
	failed := 0
	for _, name := range names {
		switch {
		case missing[name]:
			failed++
		case missing[path.Dir(name)]:
			failed++
			r.Failed = append(r.Failed, Failure{Path: name, Reason: "its directory could not be listed"})
		}
	}
	return failed
}
