package sync

import (
	"context"
	"path"
	"strings"
	"time"

	"rsince/changes"
)

// addNamesakes puts in doubt what the source has under names that the target takes for ones that are gone from the same
// directory: deleting one of them takes the other away there.
func (r *run) addNamesakes(ctx context.Context, p *planner) error {
	if !r.engine.Capabilities.FoldsNames {
		return nil
	}
	gone := map[string]set{} // folded names, by directory
	for name := range p.gone {
		dir := parent(name)
		if gone[dir] == nil {
			gone[dir] = set{}
		}
		gone[dir].add(folded(path.Base(name)))
	}
	for dir, names := range gone {
		entries, err := r.tree.entriesIn(ctx, dir)
		for _, e := range entries {
			if names.has(folded(path.Base(e.Path))) {
				p.add(changes.Change{Path: e.Path, Kind: changes.Subtree, Since: time.Now()})
			}
		}
		if err := p.links.noteBelow(ctx, dir, err); err != nil {
			return err
		}
	}
	return nil
}

// folded is one word for all names that a target may take for the same.
func folded(name string) string {
	return strings.ToLower(strings.ToUpper(strings.TrimRight(name, ". ")))
}
