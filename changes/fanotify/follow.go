package fanotify

import (
	"errors"

	"golang.org/x/sys/unix"

	"rsince/changes"
)

// follow records a change of the file with handle h, which no name in a source is known to lead to:
// under the name the kernel has for it, and by its handle if that may not be all.
func (v *view) follow(h handle, kind changes.Kind) {
	links, path, err := v.find(h)
	if err != nil {
		v.missed(err)
		return
	}
	if path != "" {
		v.recordPath(path, kind)
	}
	if links > 1 || path == "" {
		v.recordFile(h)
	}
}

// applyNameless records an event of a file without a name. Nearly always that is its link count,
// which is no change of its other names: any name the kernel has will do.
func (v *view) applyNameless(e *event) {
	kind := fileKind(e.mask)
	if kind != changes.Attributes {
		v.follow(e.file, kind)
		return
	}
	switch _, path, err := v.find(e.file); {
	case err != nil:
		v.missed(err)
	case path != "":
		v.recordPath(path, kind)
	default:
		v.recordFile(e.file)
	}
}

// missed notes that a file could not be found, unless it is gone.
func (v *view) missed(err error) {
	if !errors.Is(err, unix.ESTALE) {
		v.gap("finding a changed file: " + err.Error())
	}
}

// recordFile records a file that may have names in any source on its file system.
func (v *view) recordFile(h handle) {
	for _, w := range v.watches {
		w.rec.RecordFile(changes.Handle(h))
	}
}

// applyOutside looks at a change through a name outside every source: the file may have, or may
// meanwhile only have, another name inside one.
func (v *view) applyOutside(e *event) {
	if _, known := v.single.get(e.file); known {
		return
	}
	if leads, links := v.leads(e); leads && links == 1 {
		v.single.put(e.file, struct{}{}, 0)
		return
	}
	v.follow(e.file, fileKind(e.mask&^named))
}

// find returns the number of links of a file and a path that leads to it, empty if the kernel knows
// none. Without links the file is as good as gone: ESTALE.
func (v *view) find(h handle) (links int, path string, err error) {
	fd, err := v.open(h)
	if err != nil {
		return 0, "", err
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return 0, "", err
	}
	if stat.Nlink == 0 {
		return 0, "", unix.ESTALE
	}
	path, err = v.pathOf(fd)
	if err != nil || !v.shows(path, h) {
		path = ""
	}
	return int(stat.Nlink), path, nil
}
