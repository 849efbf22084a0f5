// Package scan learns from a tree itself what nobody was told: which names a file has, which files
// have several, what changed since some time. It reads directories in parallel and takes from each
// only what is asked for.
package scan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// A Tree is a directory and everything below it that is not pruned.
type Tree struct {
	Root string
	// Prune leaves out a name, and all below it if it is a directory. It is called from several
	// goroutines, with a path relative to Root. nil: nothing is left out.
	Prune func(path string, dir bool) bool
	// Flat stays in the root: what its directories hold is not visited.
	Flat bool
}

// An Entry is a name found in a directory.
type Entry struct {
	Path  string // relative to Root
	Inode uint64
	Type  uint8       // unix.DT_REG, unix.DT_DIR, …
	Stat  unix.Stat_t // of Walk; Names leaves it empty
}

// Walk calls visit for every entry with its metadata, from several goroutines, in no order. The
// root itself is not visited. What vanishes meanwhile is passed over. The error joins what could
// not be read; everything else was visited.
func (t Tree) Walk(ctx context.Context, visit func(Entry)) error {
	return t.walk(ctx, func(dir int, e *Entry) error {
		err := ignoringEINTR(func() error { return unix.Fstatat(dir, base(e.Path), &e.Stat, unix.AT_SYMLINK_NOFOLLOW) })
		if err != nil {
			return err
		}
		e.Inode, e.Type = e.Stat.Ino, typeOf(e.Stat.Mode)
		visit(*e)
		return nil
	})
}

// Names calls visit for every entry without asking for its metadata: Inode is what the directory
// says, which for a mount point is the directory beneath.
func (t Tree) Names(ctx context.Context, visit func(Entry)) error {
	return t.walk(ctx, func(dir int, e *Entry) error {
		if e.Type == unix.DT_UNKNOWN {
			if err := unix.Fstatat(dir, base(e.Path), &e.Stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
			e.Type = typeOf(e.Stat.Mode)
		}
		visit(*e)
		return nil
	})
}

// queue holds the directories that are yet to be read. Taking the youngest first keeps it short.
type queue struct {
	mu      sync.Mutex
	more    sync.Cond
	dirs    []string
	reading int
	errs    []error
}

func (t Tree) walk(ctx context.Context, take func(dir int, e *Entry) error) error {
	q := &queue{dirs: []string{"."}}
	q.more.L = &q.mu
	var workers sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			buf := make([]byte, 32<<10)
			for dir, ok := q.next(ctx); ok; dir, ok = q.next(ctx) {
				below, err := t.readDir(dir, buf, take)
				q.done(below, err)
			}
		})
	}
	workers.Wait()
	return errors.Join(append(q.errs, ctx.Err())...)
}

func (q *queue) next(ctx context.Context) (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.dirs) == 0 && q.reading > 0 {
		q.more.Wait()
	}
	if len(q.dirs) == 0 || ctx.Err() != nil {
		q.more.Broadcast()
		return "", false
	}
	dir := q.dirs[len(q.dirs)-1]
	q.dirs = q.dirs[:len(q.dirs)-1]
	q.reading++
	return dir, true
}

// maxErrors bounds what a tree full of unreadable directories reports.
const maxErrors = 100

func (q *queue) done(below []string, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reading--
	q.dirs = append(q.dirs, below...)
	if err != nil && len(q.errs) < maxErrors {
		q.errs = append(q.errs, err)
	}
	q.more.Broadcast()
}

// readDir takes every entry of a directory and returns the directories among them.
func (t Tree) readDir(dir string, buf []byte, take func(dir int, e *Entry) error) (below []string, err error) {
	fd, err := unix.Open(t.Root+"/"+dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if vanished(err) && dir != "." {
		return nil, nil
	} else if err != nil {
		return nil, &fs.PathError{Op: "open", Path: t.Root + "/" + dir, Err: err}
	}
	defer unix.Close(fd)
	var failed error
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		} else if err != nil && !vanished(err) {
			return below, errors.Join(failed, &fs.PathError{Op: "readdir", Path: t.Root + "/" + dir, Err: err})
		}
		if n <= 0 {
			return below, failed
		}
		for d := range dirents(buf[:n]) {
			e := Entry{Path: join(dir, d.name), Inode: d.inode, Type: d.typ}
			if t.Prune != nil && t.Prune(e.Path, e.Type == unix.DT_DIR) {
				continue
			}
			if err := take(fd, &e); err != nil && !vanished(err) {
				failed = errors.Join(failed, fmt.Errorf("%s/%s: %w", t.Root, e.Path, err))
			}
			if e.Type == unix.DT_DIR && !t.Flat {
				below = append(below, e.Path)
			}
		}
	}
}

func vanished(err error) bool {
	return err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func typeOf(mode uint32) uint8 { return uint8(mode & unix.S_IFMT >> 12) }

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

func base(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if os.IsPathSeparator(path[i]) {
			return path[i+1:]
		}
	}
	return path
}
