package main

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"rsince/changes/scan"
)

// walkCommand is the argument that makes this program read a tree and ask for the metadata of every name in it, in
// parallel: whoever wants to know by the tree itself what was changed cannot do with less.
const walkCommand = "walk"

// bareWalk is a contender that only walks.
func bareWalk(self, source string) contender {
	return contender{"bare walk", func(ctx context.Context) (reading, error) {
		took, _, err := timed(ctx, []string{self, walkCommand, source})
		return reading{seconds: took}, err
	}}
}

// walk reads the directories that wait, the youngest first, until none is left.
func walk(root string) error {
	var mu sync.Mutex
	more := sync.NewCond(&mu)
	waiting, reading := []string{root}, 0
	var failed error
	var workers sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			buf := make([]byte, 32<<10)
			mu.Lock()
			defer mu.Unlock()
			for {
				for len(waiting) == 0 && reading > 0 {
					more.Wait()
				}
				if len(waiting) == 0 {
					more.Broadcast()
					return
				}
				dir := waiting[len(waiting)-1]
				waiting = waiting[:len(waiting)-1]
				reading++
				mu.Unlock()
				below, err := statAll(dir, buf)
				mu.Lock()
				reading--
				waiting, failed = append(waiting, below...), errors.Join(failed, err)
				more.Broadcast()
			}
		})
	}
	workers.Wait()
	return failed
}

// statAll asks for the metadata of every name in dir and returns the directories in it.
func statAll(dir string, buf []byte) (below []string, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil || n == 0 {
			return below, err
		}
		for d := range scan.Dirents(buf[:n]) {
			var st unix.Stat_t
			name := string(d.Name)
			if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return below, &os.PathError{Op: "stat", Path: dir + "/" + name, Err: err}
			}
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				below = append(below, dir+"/"+name)
			}
		}
	}
}
