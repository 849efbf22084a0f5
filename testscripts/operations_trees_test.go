package testscripts

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What a workload does to names and whole trees.

func (w *workload) rename() error {
	from, err := w.pick(w.source, noDirectory)
	if err != nil {
		return err
	}
	to, err := w.place()
	if err != nil {
		return err
	}
	return os.Rename(from, to)
}

// A move is what was renamed and may go back.
type move struct{ from, to string }

// renameDir renames a directory, within the source or out of it.
func (w *workload) renameDir() error {
	from, err := w.pick(w.source, directory)
	if err != nil {
		return err
	}
	to := w.beside + "/" + w.number()
	if w.rand.IntN(3) > 0 {
		if to, err = w.place(); err != nil || !w.fits(from, to) {
			return errNothing
		}
	}
	if err := unix.Rename(from, to); err != nil {
		return err
	}
	const kept = 20
	w.moves = append(w.moves, move{from, to})
	w.moves = w.moves[max(0, len(w.moves)-kept):]
	return nil
}

// renameBack takes a directory back to where it was, with the old time of nothing below it renewed.
func (w *workload) renameBack() error {
	if len(w.moves) == 0 {
		return errNothing
	}
	i := w.rand.IntN(len(w.moves))
	m := w.moves[i]
	w.moves = slices.Delete(w.moves, i, i+1)
	w.chose(m.to, nil)
	w.chose(m.from, nil)
	for _, path := range []string{m.to, m.from} {
		dir := filepath.Dir(path)
		if real, err := filepath.EvalSymlinks(dir); err != nil || real != dir {
			return errNothing // a symlink may have come to be where a directory was
		}
	}
	return unix.Rename(m.to, m.from)
}

func (w *workload) renameIn() error {
	err := w.renameFrom(w.beside, anything)
	if err == errNothing {
		return w.makeTree(w.beside + "/" + w.number())
	}
	return err
}

func (w *workload) renameFrom(dir string, wanted func(fs.FileInfo) bool) error {
	from, err := w.pick(dir, wanted)
	if err != nil {
		return err
	}
	to, err := w.place()
	if err != nil || !w.fits(from, to) {
		return errNothing
	}
	return unix.Rename(from, to)
}

func (w *workload) renameOut() error {
	from, err := w.pick(w.source, anything)
	if err != nil {
		return err
	}
	return unix.Rename(from, w.beside+"/"+w.number())
}

func (w *workload) exchange() error {
	a, err := w.pick(w.source, anything)
	if err != nil {
		return err
	}
	b, err := w.pick([]string{w.source, w.beside}[w.rand.IntN(2)], anything)
	if err != nil || !w.fits(a, b) || !w.fits(b, a) {
		return errNothing
	}
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

func (w *workload) replaceByDir() error {
	path, err := w.pick(w.source, noDirectory)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return w.makeTree(path)
}

func (w *workload) replaceByFile() error {
	path, err := w.smallDir()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return w.writeFile(path, os.O_CREATE|os.O_EXCL)
}

func (w *workload) newTree() error {
	path, err := w.place()
	if err != nil {
		return err
	}
	return w.makeTree(path)
}

// makeTree makes a directory with a few entries and two levels, some of them with several links.
func (w *workload) makeTree(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, d := range []string{dir, dir + "/a", dir + "/a/b"} {
		_ = os.Mkdir(d, 0o750)
		for i := range w.rand.IntN(4) {
			name := d + "/" + string(rune('c'+i))
			_ = w.writeFile(name, os.O_CREATE)
			if w.rand.IntN(4) == 0 {
				_ = os.Link(name, dir+"/"+string(rune('g'+i)))
			}
		}
	}
	return nil
}

func (w *workload) deepPath() error {
	path, err := w.place()
	if err != nil {
		return err
	}
	deep := path + strings.Repeat("/"+strings.Repeat("deep", 20), 1+w.rand.IntN(15))
	if len(deep)-len(w.source) > longestPath {
		return unix.ENAMETOOLONG
	}
	if err := os.Mkdir(path, 0o755); err != nil { // it may be a symlink to a directory
		return err
	}
	if err := os.MkdirAll(deep, 0o755); err != nil {
		return err
	}
	return w.writeFile(deep+"/a", os.O_CREATE)
}

// smallDir picks a directory with at most some hundred entries below it, so that one step does not
// take most of the tree away.
func (w *workload) smallDir() (string, error) {
	path, err := w.pick(w.source, directory)
	if err != nil {
		return "", err
	}
	n := 0
	err = fs.WalkDir(os.DirFS(path), ".", func(string, fs.DirEntry, error) error {
		if n++; n > 300 {
			return errNothing
		}
		return nil
	})
	return path, err
}

func (w *workload) removeTree() error {
	path, err := w.smallDir()
	if err != nil {
		return err
	}
	return os.RemoveAll(path)
}

func (w *workload) removeAndMake() error {
	path, err := w.smallDir()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if w.rand.IntN(2) == 0 {
		return os.Mkdir(path, 0o755)
	}
	return w.makeTree(path)
}

// swapTwins makes two trees that differ in nothing but contents, or exchanges those that are there.
func (w *workload) swapTwins() error {
	dir, err := w.pick(w.source, func(i fs.FileInfo) bool { return i.IsDir() && i.Name() == "twins" })
	if err != nil || w.rand.IntN(6) == 0 {
		return w.makeTwins()
	}
	a, b := dir+"/a", dir+"/b"
	if w.rand.IntN(2) == 0 {
		return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	}
	for _, step := range [][2]string{{a, dir + "/c"}, {b, a}, {dir + "/c", b}} {
		if err := unix.Rename(step[0], step[1]); err != nil {
			return err
		}
	}
	return nil
}

func (w *workload) makeTwins() error {
	place, err := w.place()
	if err != nil {
		return err
	}
	dir := place[:strings.LastIndexByte(place, '/')] + "/twins"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	long := time.Unix(1_700_000_000, 0)
	for _, sub := range []string{"a/x", "b/x"} {
		if err := os.MkdirAll(dir+"/"+sub, 0o755); err != nil {
			return err
		}
		for _, name := range []string{"1", "2"} {
			path := dir + "/" + sub + "/" + name
			if err := os.WriteFile(path, fmt.Appendf(nil, "%016x", w.rand.Uint64()), 0o644); err != nil {
				return err
			}
			if err := os.Chtimes(path, long, long); err != nil {
				return err
			}
		}
	}
	return nil
}
