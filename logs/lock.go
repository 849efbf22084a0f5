package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rsince/changes/durable"
)

// lock keeps other writers out until unlock is called. It waits as long as the list's patience; then
// the error says who holds the lock.
func (l *List) lock() (unlock func() error, err error) {
	path := filepath.Join(l.dir, "lock")
	if err := durable.MakeDir(l.dir); err != nil {
		return nil, fmt.Errorf("locking the run list: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the run list: %w", err)
	}
	deadline := time.Now().Add(l.patience)
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			signHolder(f)
			return f.Close, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), f.Close())
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("locking %s: still held after %v by %s", path, l.patience, readHolder(f)), f.Close())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// signHolder writes into the lock file who holds it. Where that fails, on a full disk say, only the
// message to others is poorer.
func signHolder(f *os.File) {
	text := fmt.Sprintf("process %d (%.200s) since %s", os.Getpid(), strings.Join(os.Args, " "), time.Now().Format(time.RFC3339))
	if f.Truncate(0) == nil {
		f.WriteAt([]byte(text), 0)
	}
}

func readHolder(f *os.File) string {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 1024))
	if err != nil || len(text) == 0 {
		return "a process that did not leave its name"
	}
	return string(text)
}
