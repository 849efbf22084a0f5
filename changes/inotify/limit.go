package inotify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// errLimit says that a watch was refused because too many are in use. inotify_add_watch(2) says ENOSPC,
// which everybody else takes for a full disk.
var errLimit = errors.New("all watches are in use")

// A LimitError says that the kernel allows this user too little for a source.
type LimitError struct {
	Sysctl string // the setting that limits, as sysctl(8) names it
	Limit  int    // its value
	Needed int    // what the source needs alone
	Others int    // what others use, where it is known
	Set    int    // a value with which it would do, everything else being as it is
	What   string // what is counted
}

func (e *LimitError) Error() string {
	needed := humanize.Comma(int64(e.Needed)) + " " + e.What
	if e.Others > 0 {
		needed += fmt.Sprintf(" besides the %s that others use", humanize.Comma(int64(e.Others)))
	}
	return fmt.Sprintf("the source needs %s, and %s is %s: set it to %d or more (sysctl -w %[2]s=%[4]d; the line %[2]s=%[4]d in /etc/sysctl.d/rsince.conf keeps it)",
		needed, e.Sysctl, humanize.Comma(int64(e.Limit)), e.Set)
}

// room is how many directories more than there are a limit should at least allow.
const room = 100

// checkLimit returns a *LimitError if the limit of watches kept a part of the source from being
// watched.
func (w *watch) checkLimit(ctx context.Context) error {
	limited := w.notWatched(true)
	if len(limited) == 0 {
		return nil
	}
	limit := w.needs(ctx, limited)
	if err := ctx.Err(); err != nil {
		return err
	}
	return limit
}

// needs counts the directories below those that the limit keeps from being watched, to say how many
// watches would do.
func (w *watch) needs(ctx context.Context, limited []string) *LimitError {
	name, limit := watchLimit()
	needed := len(w.byKey)
	others := max(limit-needed, 0)
	if w.cookies.watched == nil {
		needed++
	}
	for _, path := range limited {
		needed += w.count(ctx, path)
	}
	return &LimitError{
		Sysctl: name, Limit: limit, Needed: needed, Others: others, What: "watches",
		Set: others + needed + max(needed/4, room),
	}
}

// count returns how many directories there are from path downwards.
func (w *watch) count(ctx context.Context, path string) (n int) {
	todo := []string{path}
	for ; len(todo) > 0 && ctx.Err() == nil; n++ {
		path := todo[len(todo)-1]
		todo = append(todo[:len(todo)-1], w.below(path)...)
	}
	return n
}

// below returns the directories of the source in the one at path; none if it cannot be read.
func (w *watch) below(path string) (all []string) {
	f, err := openDir(w.absolute(path), unix.O_RDONLY)
	if err != nil {
		return nil
	}
	defer f.Close()
	in, err := statAt(int(f.Fd()), "")
	if err != nil {
		return nil
	}
	names, _ := subdirectories(int(f.Fd()), w.listing)
	for _, name := range names {
		if path != "." {
			name = path + "/" + name
		}
		if st, err := statAt(int(f.Fd()), filepath.Base(name)); err == nil && w.part(name, st, in) {
			all = append(all, name)
		}
	}
	return all
}

// newWatcherError makes a *LimitError of what inotify_init1(2) answers when a user has too many
// instances. It answers the same when the process has too many open files.
func newWatcherError(err error) error {
	if !errors.Is(err, unix.EMFILE) {
		return err
	}
	null, other := os.Open(os.DevNull)
	if other != nil {
		return err
	}
	null.Close()
	name, limit := lowest("fs.inotify.max_user_instances", "user.max_inotify_instances")
	return &LimitError{Sysctl: name, Limit: limit, Needed: 1, What: "more inotify instance", Set: max(2*limit, instances)}
}

// instances is the kernel's default for a user.
const instances = 128

func watchLimit() (name string, value int) {
	return lowest("fs.inotify.max_user_watches", "user.max_inotify_watches")
}

// lowest returns the lower of two settings: in a user namespace both that of the machine and that of
// the namespace count (namespaces(7)).
func lowest(machine, namespace string) (name string, value int) {
	a, errA := sysctl(machine)
	b, errB := sysctl(namespace)
	if errB == nil && (errA != nil || b < a) {
		return namespace, b
	}
	return machine, a
}

// sysctl reads a setting that is a number.
func sysctl(name string) (int, error) {
	b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}
