package testscripts

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A workload does random things to a source, and across its border to a directory beside it on the
// same file system. It looks where it writes: it never follows a symlink.
type workload struct {
	seed    uint64
	rand    *rand.Rand // of the step at hand
	source  string
	beside  string
	foreign string // a directory that symlinks lead to and that nobody may write to
	limit   int    // entries; when there are more, trees are removed. 0: any number

	operations []operation // each as often as it weighs
	held       []*os.File
	silent     silent
	moves      []move // of directories
	steps      int
	done       map[string]int // by operation: how often it did something

	history *bufio.Writer // a line for each operation: when it began and ended, what it is, what it chose
	file    *os.File
	chosen  []string
}

// An operation does one thing. An error says that it was not possible just now.
type operation struct {
	name   string
	weight int
	needs  need
	do     func(*workload) error
}

// A need is what an operation asks of the one who does it or of the one who watches.
type need uint8

const (
	// root: the right to change owners and to make device nodes.
	root need = 1 << iota
	// handles: a watcher that hears of files by their handles, not by the names in directories.
	handles
)

func newWorkload(t *testing.T, seed uint64, dir string, can need) *workload {
	history, err := os.Create(filepath.Join(dir, "history"))
	if err != nil {
		t.Fatal(err)
	}
	w := &workload{
		seed:    seed,
		rand:    rand.New(rand.NewPCG(seed, 0)),
		source:  filepath.Join(dir, "src"),
		beside:  filepath.Join(dir, "beside"),
		foreign: filepath.Join(dir, "foreign"),
		done:    map[string]int{},
		history: bufio.NewWriter(history),
		file:    history,
	}
	t.Cleanup(w.close)
	for _, op := range operations() {
		for range op.weight {
			if op.needs&^can == 0 {
				w.operations = append(w.operations, op)
			}
		}
	}
	return w
}

func operations() []operation {
	return []operation{
		{"create", 6, 0, (*workload).create},
		{"create with an odd name", 3, 0, (*workload).createOdd},
		{"write", 4, 0, (*workload).write},
		{"append", 4, 0, (*workload).append},
		{"truncate", 2, 0, (*workload).truncate},
		{"rewrite behind equal size and time", 3, 0, (*workload).rewriteHidden},
		{"rewrite within a second", 3, 0, (*workload).rewriteTwice},
		{"sparse file", 1, 0, (*workload).sparse},
		{"write a mapping", 2, handles, (*workload).writeMapping},
		{"hold open", 3, 0, (*workload).hold},
		{"write what is held open", 4, handles, (*workload).writeHeld},
		{"truncate what is held open", 1, handles, (*workload).truncateHeld},
		{"chmod what is held open", 1, handles, (*workload).chmodHeld},
		{"O_TMPFILE", 2, handles, (*workload).tmpfile},
		{"copy a range", 2, 0, (*workload).copyRange},
		{"punch a hole", 2, 0, (*workload).punchHole},

		{"hold for AIO", 1, root | handles, (*workload).holdForAIO},
		{"write by AIO", 3, root | handles, (*workload).writeByAIO},
		{"map", 1, root | handles, (*workload).mapFile},
		{"store in a mapping", 3, root | handles, (*workload).storeInMapping},
		{"attach a loop device", 1, root | handles, (*workload).attachLoop},
		{"write to a loop device", 3, root | handles, (*workload).writeToLoop},

		{"chmod", 3, 0, (*workload).chmod},
		{"chmod of a directory", 2, 0, (*workload).chmodDir},
		{"chown", 2, root, (*workload).chown},
		{"times", 2, 0, (*workload).times},
		{"set an xattr", 2, 0, (*workload).setXattr},
		{"remove an xattr", 1, 0, (*workload).removeXattr},
		{"set an ACL", 2, 0, (*workload).setACL},
		{"set capabilities", 1, root, (*workload).setCapabilities},

		{"link", 5, 0, (*workload).link},
		{"link across the border", 2, handles, (*workload).linkAcross},
		{"write beside", 1, handles, (*workload).writeBeside},
		{"remove", 5, 0, (*workload).remove},
		{"symlink", 3, 0, (*workload).symlink},
		{"fifo", 1, 0, (*workload).fifo},
		{"socket", 1, 0, (*workload).socket},
		{"device", 1, root, (*workload).device},

		{"rename", 5, 0, (*workload).rename},
		{"rename a directory", 3, 0, (*workload).renameDir},
		{"rename a directory back", 2, 0, (*workload).renameBack},
		{"rename out of the source", 1, 0, (*workload).renameOut},
		{"rename into the source", 2, 0, (*workload).renameIn},
		{"exchange", 2, 0, (*workload).exchange},
		{"replace by a directory", 1, 0, (*workload).replaceByDir},
		{"replace a directory by a file", 1, 0, (*workload).replaceByFile},
		{"new tree", 3, 0, (*workload).newTree},
		{"deep path", 1, 0, (*workload).deepPath},
		{"remove a tree", 1, 0, (*workload).removeTree},
		{"remove a directory and make it anew", 1, 0, (*workload).removeAndMake},
		{"swap trees of equal sizes and times", 3, 0, (*workload).swapTwins},
	}
}

// step does one thing that was possible, the next of those that the seed brings.
func (w *workload) step() { w.stepOf(uint64(w.steps)) }

// stepOf does a step by its number, whichever others were done before, and says what it did.
func (w *workload) stepOf(number uint64) (did string) {
	w.rand = rand.New(rand.NewPCG(w.seed, number))
	const tries = 50
	for range tries {
		op := w.operations[w.rand.IntN(len(w.operations))]
		if w.try(op) {
			did = fmt.Sprintf("%s %v", op.name, w.chosen)
			break
		}
	}
	if w.steps++; w.limit > 0 && number%100 == 99 {
		w.prune()
	}
	return did
}

func (w *workload) try(op operation) bool {
	w.chosen = w.chosen[:0]
	began := time.Now()
	err := op.do(w)
	if len(w.chosen) > 0 {
		fmt.Fprintf(w.history, "%s %s %s %v %v\n", began.Format(timestamp), time.Now().Format(timestamp), op.name, w.chosen, err)
	}
	if err != nil {
		return false
	}
	w.done[op.name]++
	return true
}

const timestamp = "15:04:05.000000"

// chose notes for the history that the operation at hand is about path.
func (w *workload) chose(path string, info fs.FileInfo) {
	text := strconv.Quote(strings.TrimPrefix(path, w.source+"/"))
	if info != nil {
		text += fmt.Sprintf(" #%d", info.Sys().(*syscall.Stat_t).Ino)
	}
	w.chosen = append(w.chosen, text)
}

// each does every operation once, or returns the names of those that could not be done.
func (w *workload) each() (missed []string) {
	const tries = 200
	seen := map[string]bool{}
	for _, op := range w.operations {
		if seen[op.name] {
			continue
		}
		seen[op.name] = true
		done := false
		for n := 0; n < tries && !done; n++ {
			done = w.try(op)
		}
		if !done {
			missed = append(missed, op.name)
		}
	}
	return missed
}

// close lets go of what is held open, and completes the history.
func (w *workload) close() {
	w.history.Flush()
	w.file.Close()
	for _, f := range w.held {
		f.Close()
	}
	w.held = nil
	w.silent.close()
}

// prune removes trees until the source is no larger than it may be.
func (w *workload) prune() {
	for _, dir := range []string{w.source, w.beside} {
		for range 100 {
			n := 0
			_ = filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { n++; return nil })
			if n <= w.limit {
				break
			}
			w.try(operation{name: "prune", do: func(w *workload) error {
				path, err := w.pick(dir, anything)
				if err != nil {
					return err
				}
				return os.RemoveAll(path)
			}})
		}
	}
}

var errNothing = errors.New("there is nothing of the kind")

func anything(fs.FileInfo) bool      { return true }
func regular(i fs.FileInfo) bool     { return i.Mode().IsRegular() }
func directory(i fs.FileInfo) bool   { return i.IsDir() }
func noDirectory(i fs.FileInfo) bool { return !i.IsDir() }

// pick returns a random path below dir that is wanted.
func (w *workload) pick(dir string, wanted func(fs.FileInfo) bool) (string, error) {
	const tries = 8
	for range tries {
		at, depth := dir, w.rand.IntN(8)
		for range depth + 1 {
			path, info, err := w.entry(at)
			if err != nil {
				break
			}
			if at = path; !info.IsDir() {
				break
			}
		}
		if info, err := os.Lstat(at); at != dir && err == nil && wanted(info) {
			w.chose(at, info)
			return at, nil
		}
	}
	return "", errNothing
}

func (w *workload) entry(dir string) (string, fs.FileInfo, error) {
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil || len(names) == 0 {
		return "", nil, errNothing
	}
	slices.Sort(names) // each file system has an order of its own
	path := dir + "/" + names[w.rand.IntN(len(names))]
	info, err := os.Lstat(path)
	return path, info, err
}

// longestPath keeps paths within what rsync can copy, also below directories that are moved.
const longestPath = 3000

// place returns a name in a random directory of the source, of a few names that come again and again
// or of a kind that programs stumble over.
func (w *workload) place() (string, error) {
	dir := w.source
	if w.rand.IntN(4) > 0 {
		if picked, err := w.pick(w.source, directory); err == nil {
			dir = picked
		}
	}
	if len(dir)-len(w.source) > longestPath/2 {
		return "", unix.ENAMETOOLONG
	}
	name := string(rune('a' + w.rand.IntN(12)))
	if w.rand.IntN(8) == 0 {
		name = w.oddName()
	}
	path := dir + "/" + name
	w.chose(path, nil)
	return path, nil
}

func (w *workload) oddName() string {
	n := w.rand.IntN(100)
	odd := []string{
		"new\nline", "invalid\xff\xfeutf8", "-rf", "--delete", "#hash", ";semicolon", " blanks ", "tab\t", "*?[a-z]", `back\slash`,
		`\#012`, "ü€", "\x01\x7f", ".hidden", ".name.AbCdEf", "'quoted\"", "a:b", "~", "...", "%n", "$HOME",
		strings.Repeat("L", 252), strings.Repeat("é", 126), "x (deleted)",
	}
	return fmt.Sprintf("%s%d", odd[w.rand.IntN(len(odd))], n)
}

// content is different each time and of a few sizes, so that equal sizes are common.
func (w *workload) content() []byte {
	sizes := []int{16, 16, 16, 100, 5000, 70_000, 200_000}
	size := sizes[w.rand.IntN(len(sizes))]
	return []byte(strings.Repeat(fmt.Sprintf("%016x", w.rand.Uint64()), size/16+1)[:size])
}

// fits reports whether everything below from has a path that is not too long once it is called to.
func (w *workload) fits(from, to string) bool {
	longest := len(from)
	_ = filepath.WalkDir(from, func(path string, _ fs.DirEntry, _ error) error {
		longest = max(longest, len(path))
		return nil
	})
	return len(to)-len(w.source)+longest-len(from) < longestPath
}
