package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

const (
	filesPerDir = 10
	fileSize    = 100 // bytes
	dirsPerDir  = 20  // so that the 71,169 directories are four levels deep
)

// A tree is the source: directories in directories, each holding filesPerDir files of fileSize
// bytes.
type tree struct {
	path string
	dirs []string // relative to path; the first is path itself
	// revision counts the sets of files chosen so far, so that each is a new one.
	revision int
}

func makeTree(ctx context.Context, path string, dirs int) (*tree, error) {
	t := &tree{path: path, dirs: make([]string, dirs)}
	for i := range t.dirs {
		if i > 0 {
			t.dirs[i] = filepath.Join(t.dirs[(i-1)/dirsPerDir], fmt.Sprintf("d%d", i))
		}
		if err := os.Mkdir(filepath.Join(path, t.dirs[i]), 0o755); err != nil {
			return nil, err
		}
	}
	files := make([]string, 0, dirs*filesPerDir)
	for i := range cap(files) {
		files = append(files, t.file(i))
	}
	return t, t.write(ctx, files, os.O_CREATE|os.O_EXCL)
}

// file names the i-th file, relative to the tree.
func (t *tree) file(i int) string {
	return filepath.Join(t.dirs[i/filesPerDir], fmt.Sprintf("f%d", i%filesPerDir))
}

// choose names n files spread evenly over the tree, sorted; other ones each time until all have had
// their turn.
func (t *tree) choose(n int) []string {
	t.revision++
	total := len(t.dirs) * filesPerDir
	stride := total / n
	files := make([]string, n)
	for i := range files {
		files[i] = t.file((i*stride + t.revision) % total)
	}
	slices.Sort(files)
	return files
}

// rewrite gives n files spread over the tree new contents of the same size, and names them, sorted.
func (t *tree) rewrite(ctx context.Context, n int) ([]string, error) {
	files := t.choose(n)
	return files, t.write(ctx, files, os.O_TRUNC)
}

// write writes contents that only this revision has to all files, opened with flags.
func (t *tree) write(ctx context.Context, files []string, flags int) error {
	contents := fmt.Appendf(nil, "%-*d\n", fileSize-1, t.revision)
	errs := make([]error, runtime.NumCPU())
	var workers sync.WaitGroup
	for w := range errs {
		workers.Go(func() {
			for i := w; i < len(files) && errs[w] == nil; i += len(errs) {
				errs[w] = errors.Join(ctx.Err(), writeFile(filepath.Join(t.path, files[i]), flags, contents))
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

func writeFile(name string, flags int, contents ...[]byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|flags, 0o644)
	if err != nil {
		return err
	}
	for _, c := range contents {
		_, werr := f.Write(c)
		err = errors.Join(err, werr)
	}
	return errors.Join(err, f.Close())
}

// writeList writes names, a line each, to path.
func writeList(path string, names []string) error {
	return os.WriteFile(path, []byte(strings.Join(names, "\n")+"\n"), 0o644)
}
