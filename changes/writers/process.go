package writers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// rounds limits how often the processes are listed. New ones may have got their files from those
// that had been looked at, so it is done until there are none.
const rounds = 5

// errRefused says that a process may not be looked at (ptrace(2), "Ptrace access mode checking").
var errRefused = errors.New("permission denied")

// processes looks at what all processes hold.
func (f *finder) processes(ctx context.Context) error {
	asked := map[string]bool{}
	for range rounds {
		names, err := names("/proc")
		if err != nil {
			return err
		}
		var fresh []holder
		for _, name := range names {
			if name[0] >= '0' && name[0] <= '9' && !asked[name] {
				asked[name] = true
				fresh = append(fresh, process(name))
			}
		}
		if len(fresh) == 0 {
			return nil
		}
		if err := f.ask(ctx, fresh); err != nil {
			return err
		}
	}
	return nil
}

func names(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// A process is the id of one.
type process string

// String tells a person which process it is.
func (p process) String() string {
	name, _ := os.ReadFile("/proc/" + string(p) + "/comm")
	return fmt.Sprintf("process %s (%s)", string(p), strings.TrimSpace(string(name)))
}

// held returns the files that the process has open for writing or has mapped since it had.
func (p process) held(m *mounts) (all []held, first error) {
	for _, id := range p.tables() {
		t := task("/proc/" + id)
		open, openErr := t.open(m)
		mapped, mapErr := t.mapped(m)
		all = slices.Concat(all, open, mapped)
		first = cmp.Or(first, openErr, mapErr)
		if errors.Is(first, unix.EACCES) {
			return all, errRefused
		}
	}
	return all, first
}

// tables returns a task for each table of descriptors in the process. Usually it is one, but a
// thread can have left it (unshare(2)), and a dead first thread has none.
func (p process) tables() []string {
	tasks := []string{string(p)}
	dir := "/proc/" + string(p) + "/task"
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Nlink <= 3 { // 2 and one for each thread (fs/proc/base.c)
		return tasks
	}
	threads, _ := names(dir)
	for _, thread := range threads {
		if !slices.ContainsFunc(tasks, func(task string) bool { return haveSameTable(task, thread) }) {
			tasks = append(tasks, thread)
		}
	}
	return tasks
}

// haveSameTable is sameTable for the names of two tasks, and yes if there is no answer.
func haveSameTable(a, b string) bool {
	x, _ := strconv.Atoi(a)
	y, _ := strconv.Atoi(b)
	same, err := sameTable(x, y)
	return same || err != nil
}

// sameTable reports whether two tasks share their descriptors.
func sameTable(a, b int) (bool, error) {
	const files = 2 // KCMP_FILES
	order, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), files, 0, 0, 0)
	if errno != 0 {
		return false, fmt.Errorf("kcmp: %w", errno)
	}
	return order == 0, nil
}
