package testscripts

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// A harm makes a life harder. Each undoes what it did before, or does it again.
type harm func(*life)

func killWatcher(l *life) {
	if l.watcher == nil {
		l.startWatcher("live")
	} else {
		l.endWatcher(unix.SIGKILL)
		l.modes["watcher killed"]++
	}
}

// mountSomewhere hides a directory of the source below another file system.
func mountSomewhere(l *life) {
	if l.unmount() > 0 {
		return
	}
	dirs, err := filepath.Glob(l.dir + "/src/*/")
	l.must(err)
	if len(dirs) == 0 {
		return
	}
	point := dirs[l.rand.IntN(len(dirs))]
	if unix.Mount("tmpfs", point, "tmpfs", 0, "") == nil { // it may be gone
		_ = os.WriteFile(filepath.Join(point, "not of the source"), nil, 0o644)
	}
}

// unmount uncovers what was hidden, wherever the mount points have been moved, and tells how many.
func (l *life) unmount() int {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(l.dir + "/src"))
	l.must(err)
	n := 0
	for _, m := range mounts {
		if unix.Unmount(m.Mountpoint, unix.MNT_DETACH) == nil {
			n++
		}
	}
	return n
}

// editPatterns has other names left out from now on; the watcher is told, or not.
func editPatterns(l *life) {
	all := []string{"*a", "/*/b*", "[c-e]*/", "*[0-3]"}
	l.exclude(slices.DeleteFunc(all, func(string) bool { return l.rand.IntN(2) == 0 })...)
	if l.watcher != nil && l.rand.IntN(2) == 0 {
		l.must(l.watcher.Process.Signal(unix.SIGHUP))
	}
}

// exclude writes the profile with these patterns.
func (l *life) exclude(patterns ...string) {
	quoted := make([]string, len(patterns))
	for i, pattern := range patterns {
		quoted[i] = fmt.Sprintf("%q", pattern)
	}
	l.profile("live", l.dir+"/dst", "[watch]", fmt.Sprintf("backend = %q", l.backend))
	l.option("live", fmt.Sprintf("exclude = [%s]", strings.Join(quoted, ", ")))
}

// overflow makes more events than inotify's queue holds while the watcher cannot take them.
func overflow(l *life) {
	if l.watcher == nil {
		return
	}
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	l.must(err)
	var most int
	_, err = fmt.Sscan(string(text), &most)
	l.must(err)
	l.must(l.watcher.Process.Signal(unix.SIGSTOP))
	dir, err := os.MkdirTemp(l.dir+"/src", "flood")
	l.must(err)
	for i := range most + 1 {
		if os.Chmod(l.dir+"/src", 0o755|os.FileMode(i&1)) != nil {
			break
		}
		_ = os.Chmod(dir, 0o755)
	}
	_ = os.Remove(dir)
	l.must(l.watcher.Process.Signal(unix.SIGCONT))
}
