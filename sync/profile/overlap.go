package profile

import (
	"errors"
	"fmt"
)

// separate returns the profiles that leave each other's targets alone, and an Error for each pair
// that does not. A target within another one is what the outer profile's deletions would take, so it
// has to be excluded there. The profiles are in the order of their names.
func separate(profiles []located) ([]*Profile, error) {
	var errs []error
	conflict := make(map[*Profile]bool)
	for i, later := range profiles {
		for _, earlier := range profiles[:i] {
			wrong := overlap(earlier.Profile, later.Profile)
			if wrong == "" {
				continue
			}
			conflict[earlier.Profile], conflict[later.Profile] = true, true
			errs = append(errs, &Error{
				File:    later.File,
				Line:    later.targetLine,
				Key:     "target",
				Wrong:   wrong,
				Allowed: "every profile needs a target of its own",
			})
		}
	}
	var good []*Profile
	for _, p := range profiles {
		if !conflict[p.Profile] {
			good = append(good, p.Profile)
		}
	}
	return good, errors.Join(errs...)
}

// overlap says how two profiles write to the same place; empty: they do not.
func overlap(earlier, later *Profile) string {
	if rel, ok := later.Target.within(earlier.Target); ok {
		switch {
		case rel == ".":
			return fmt.Sprintf("%q is also the target of profile %s", later.Target, earlier.Name)
		case !earlier.Filter.Excluded(rel, true):
			return fmt.Sprintf("%q is inside the target of profile %s, which does not exclude %q",
				later.Target, earlier.Name, pattern(rel))
		}
	}
	if rel, ok := earlier.Target.within(later.Target); ok && rel != "." && !later.Filter.Excluded(rel, true) {
		return fmt.Sprintf("%q holds the target of profile %s and does not exclude %q",
			later.Target, earlier.Name, pattern(rel))
	}
	return ""
}
