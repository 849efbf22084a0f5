package writers

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
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

// upperDir returns the upper directory as it was told to mount(8).
func upperDir(overlay *mountinfo.Info) (dir string, ok bool) {
	_, dir, ok = strings.Cut(","+overlay.VFSOptions, ",upperdir=")
	dir, _, _ = strings.Cut(dir, ",")
	return unescape.Replace(dir), ok
}

// unescape undoes what seq_show_option (include/linux/seq_file.h) does to an option, and the kernel
// to every field of the mount table.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\054`, ",", `\134`, `\`, `\043`, "#")
