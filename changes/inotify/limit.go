package inotify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// A LimitError says that the kernel allows this user too little for a source.
type LimitError struct {
	Sysctl string // the setting that limits, as sysctl(8) names it
	Limit  int    // its value
	Needed int    // what the source needs alone
	Set    int    // a value with which it would do, everything else being as it is
	What   string // what is counted
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("it needs %s %s, and %s is %s: set %[3]s=%[5]d or more (sysctl -w %[3]s=%[5]d; put the line into a file in /etc/sysctl.d to keep it)",
		humanize.Comma(int64(e.Needed)), e.What, e.Sysctl, humanize.Comma(int64(e.Limit)), e.Set)
}

// checkLimit returns a *LimitError if the limit of watches kept a part of the source from being
// watched. It counts the directories to say how many watches would do.
func (w *watch) checkLimit(ctx context.Context) error {
	limited := false
	for _, err := range w.unwatched {
		limited = limited || errors.Is(err, unix.ENOSPC)
	}
	if !limited {
		return nil
	}
	added := len(w.byKey)
	w.scan(ctx, w.root, func(*dir, *os.File) error { return nil })
	if err := ctx.Err(); err != nil {
		return err
	}
	needed := len(w.byKey)
	name, limit := lowest("fs.inotify.max_user_watches", "user.max_inotify_watches")
	return &LimitError{
		Sysctl: name, Limit: limit, Needed: needed, What: "watches",
		// The others are the user's other programs; a quarter is for the source to grow.
		Set: max(limit-added, 0) + needed + needed/4,
	}
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
	return fmt.Errorf("%w: %w", err, &LimitError{Sysctl: name, Limit: limit, Needed: 1, What: "more inotify instance", Set: 2 * limit})
}

// explain adds to the bare "no space left on device" what it means for a watch.
func explain(err error) error {
	if !errors.Is(err, unix.ENOSPC) {
		return err
	}
	name, limit := lowest("fs.inotify.max_user_watches", "user.max_inotify_watches")
	return fmt.Errorf("all watches are in use (%s is %s): %w", name, humanize.Comma(int64(limit)), err)
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
