// Package scan learns from a tree itself what nobody was told: which names a file has, which files
// have several, what changed since some time. It reads directories in parallel and takes from each
// only what is asked for.
package scan

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Tree is a directory and everything below it that is not pruned.
type Tree struct {
	Root string
	// Prune leaves out a name, and all below it if it is a directory. It is called from several
	// goroutines, with a path relative to Root. nil: nothing is left out.
	Prune func(path string, dir bool) bool
	// Unread is called, from several goroutines, with what could not be looked at. nil: nothing.
	Unread func(path string)
	// Flat stays in the root: what its directories hold is not visited.
	Flat bool
}

// An Entry is a name found in a directory.
type Entry struct {
	Path  string // relative to Root
	Inode uint64
	Type  uint8 // unix.DT_REG, unix.DT_DIR, …
	// Of Walk only; a directory of a file system without file handles has no identity.
	Stat     unix.Stat_t
	Identity Identity // of directories
}

// Walk calls visit for every entry with its metadata, from several goroutines, in no order. The
// root itself is not visited, and a directory before what is in it. What vanishes meanwhile is passed
// over. The error joins what could
// not be read; everything else was visited, unless ctx ended, which then is in the error too.
func (t Tree) Walk(ctx context.Context, visit func(Entry)) error {
	return t.walk(ctx, func(dir int, e *Entry) error {
		if err := e.stat(dir); err != nil {
			return err
		}
		if e.Type == unix.DT_DIR {
			e.Identity, _ = IdentityOf(dir, base(e.Path))
		}
		visit(*e)
		return nil
	})
}

// Names calls visit for every entry, as Walk does, without asking for its metadata: Inode is what
// the directory says, which for a mount point is the directory beneath.
func (t Tree) Names(ctx context.Context, visit func(Entry)) error {
	return t.walk(ctx, func(dir int, e *Entry) error {
		visit(*e)
		return nil
	})
}

// stat asks for the metadata of an entry of the directory open as dir.
func (e *Entry) stat(dir int) error {
	err := ignoringEINTR(func() error { return unix.Fstatat(dir, base(e.Path), &e.Stat, unix.AT_SYMLINK_NOFOLLOW) })
	if err == nil {
		e.Inode, e.Type = e.Stat.Ino, uint8(e.Stat.Mode&unix.S_IFMT>>12) // IFTODT of <dirent.h>
	}
	return err
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
	root, err := unix.Open(t.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: t.Root, Err: err}
	}
	defer unix.Close(root)
	q := &queue{dirs: []string{"."}}
	q.more.L = &q.mu
	var workers sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			r := reader{Tree: t, root: root, take: take, buf: make([]byte, 32<<10)}
			for dir, ok := q.next(ctx); ok; dir, ok = q.next(ctx) {
				q.done(r.read(ctx, dir))
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

func (q *queue) done(below []string, errs []error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reading--
	q.dirs = append(q.dirs, below...)
	q.errs = append(q.errs, errs[:min(len(errs), maxErrors-len(q.errs))]...)
	q.more.Broadcast()
}

// reader reads directories of a tree, one after the other.
type reader struct {
	Tree
	root int // descriptor
	take func(dir int, e *Entry) error
	buf  []byte

	below []string // of the directory being read: the directories in it
	errs  []error
}

// read takes every entry of a directory and returns the directories among them.
func (r *reader) read(ctx context.Context, dir string) (below []string, errs []error) {
	r.below, r.errs = nil, nil
	fd, err := r.open(dir)
	if err != nil {
		r.fail("open", dir, err)
		return nil, r.errs
	}
	defer unix.Close(fd)
	for ctx.Err() == nil {
		n := 0
		err := ignoringEINTR(func() (err error) {
			n, err = unix.Getdents(fd, r.buf)
			return err
		})
		if err != nil {
			r.fail("readdir", dir, err)
		}
		if n <= 0 {
			break
		}
		for d := range Dirents(r.buf[:n]) {
			r.entry(fd, Entry{Path: join(dir, string(d.Name)), Inode: d.Inode, Type: d.Type})
		}
	}
	return r.below, r.errs
}

// open opens a directory of the tree, and none to which a symlink leads that has just taken the
// place of a directory.
func (r *reader) open(dir string) (fd int, err error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	how := unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	err = ignoringEINTR(func() error {
		fd, err = unix.Openat2(r.root, dir, &how)
		return err
	})
	if err == unix.ENOSYS || err == unix.EPERM { // before Linux 5.6, or where a filter does not know it
		err = ignoringEINTR(func() error {
			fd, err = unix.Openat(r.root, dir, flags, 0)
			return err
		})
	}
	return fd, err
}

func (r *reader) entry(dir int, e Entry) {
	if e.Type == unix.DT_UNKNOWN {
		if err := e.stat(dir); err != nil {
			r.fail("stat", e.Path, err)
			return
		}
	}
	listed := e.Type
	if r.prunes(e) {
		return
	}
	if err := r.take(dir, &e); err != nil {
		r.fail("stat", e.Path, err)
		return
	}
	if e.Type != unix.DT_DIR || r.Flat || listed != unix.DT_DIR && r.prunes(e) {
		return
	}
	r.below = append(r.below, e.Path)
}

func (r *reader) prunes(e Entry) bool {
	return r.Prune != nil && r.Prune(e.Path, e.Type == unix.DT_DIR)
}

// fail notes an error, unless the path is only not there any more.
func (r *reader) fail(op, path string, err error) {
	if vanished(err) && path != "." {
		return
	}
	if r.Unread != nil {
		r.Unread(path)
	}
	if len(r.errs) >= maxErrors {
		return
	}
	r.errs = append(r.errs, &fs.PathError{Op: op, Path: filepath.Join(r.Root, path), Err: err})
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

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
