package writers

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"rsince/changes"
)

// upper returns the file that is written to when one on overlayfs is: the same path in the upper
// directory. overlayfs passes on direct libaio and mappings as silently as it gets them.
func (f *finder) upper(h held, overlay *mountinfo.Info) (held, bool) {
	dir, ok := upperDir(overlay)
	if !ok { // nothing can be written
		return h, false
	}
	path := join(dir, strings.TrimPrefix(within(overlay, h.path), "/"))
	if filepath.IsAbs(path) && !f.mounts.mayShow(path) {
		return h, false
	}
	upper, err := lookHere(path)
	if !filepath.IsAbs(path) || err != nil || !upper.regular {
		f.unseen.add(fmt.Sprintf("what is open as %q in an overlay", h.path), fmt.Errorf("it is not to be seen as %q", path))
		return h, false
	}
	return held{file: upper, process: h.process, link: path, path: path}, true
}

// Layers returns the directories of the source that are the upper ones of overlays, in any mount namespace. Of what is
// written to a file through an overlay some kernels make no event (6.1 makes none, 6.18 does), and once the file is
// closed nothing but its ctime shows it.
func Layers(source changes.Source) ([]string, error) {
	m, err := readMounts(source)
	if err != nil {
		return nil, fmt.Errorf("looking for overlays: %w", err)
	}
	layers := map[string]bool{}
	for _, process := range append([]string{""}, namespaces()...) {
		table, root := m.table, ""
		if process != "" {
			table, root = readTable(process), process+"/root"
		}
		for _, mount := range table {
			dir, ok := upperDir(mount)
			if mount.FSType != "overlay" || !ok {
				continue
			}
			if rel := m.layer(root, dir); rel != "" {
				layers[rel] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(layers)), nil
}

// layer returns where in the source an upper directory is, as told below root: "." if the source is in it, or where it is
// cannot be known, and "" if it is elsewhere.
func (m *mounts) layer(root, dir string) string {
	switch {
	case !filepath.IsAbs(dir): // as it was told to mount(8)
		return "."
	case root == "" && !m.mayShow(dir):
		return ""
	}
	h := held{process: root, link: root + dir, path: dir}
	var err error
	switch h.file, err = look(unix.AT_FDCWD, h.link, 0); {
	case gone(err):
		return "."
	case err != nil || !m.mayHold(h.dev):
		return ""
	case root == "" && below(m.source.Path, dir):
		return "."
	}
	c, err := m.change(h)
	if err != nil {
		return ""
	}
	return c.Path
}

// upperDir returns the upper directory as it was told to mount(8).
func upperDir(overlay *mountinfo.Info) (dir string, ok bool) {
	_, dir, ok = strings.Cut(","+overlay.VFSOptions, ",upperdir=")
	dir, _, _ = strings.Cut(dir, ",")
	return unescape.Replace(dir), ok
}

// unescape undoes what seq_show_option (include/linux/seq_file.h) does to an option, and the kernel
// to every field of the mount table.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\054`, ",", `\134`, `\`, `\043`, "#")
