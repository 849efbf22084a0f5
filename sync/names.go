package sync

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rsince/changes/scan"
)

// A watcher that hears only names cannot tell which file was written through a name that is gone
// before anybody looked, nor what other names that file has, and hears nothing of a name outside the
// source. So runs after such a watcher remember the names of every file with several, and which version
// of it they copied: when a name is touched, or the file is of another version, all of them are in doubt.
// A watcher that knows files by their handles needs no such memory. One that hears only names begins with a gap, and the
// run after it reads the whole source, all such files too.

// otherNames is a memory of files with several names.
type otherNames []named

// named has the names in the source of one file, which may have more elsewhere.
type named struct {
	names   []string
	version scan.Version // what was copied of it, or older; 0: not known
}

// fileVersion gives the version of a file that its names lead to. The inode's number is left out, for some
// file systems on which nothing but names is heard give a file another one now and then; that a name leads
// to another file is heard.
func fileVersion(st unix.Stat_t) scan.Version {
	st.Ino = 0
	return scan.VersionOf(&st)
}

func (o otherNames) names() [][]string {
	var names [][]string
	for _, file := range o {
		names = append(names, file.names)
	}
	return names
}

func namesFile(dir string) string { return filepath.Join(dir, "names") }

// namesHeader is the first line of the file. Behind it come of each file the version, in hexadecimal, and
// the names, with a zero byte behind each, and one more behind the last.
const namesHeader = "rsince names 2\n"

// recallNames reads the file; errDamaged if it is not what was written, or gone.
func recallNames(dir string) (otherNames, error) {
	data, err := os.ReadFile(namesFile(dir))
	if errors.Is(err, fs.ErrNotExist) { // every full run writes it
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	} else if err != nil {
		return nil, err
	}
	text, err := summed(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", namesFile(dir), err)
	}
	text, ok := bytes.CutPrefix(text, []byte(namesHeader))
	if !ok {
		return nil, fmt.Errorf("reading %s: %w", namesFile(dir), errDamaged)
	}
	var all otherNames
	for file := range bytes.SplitSeq(text, []byte{0, 0}) {
		version, names, ok := strings.Cut(string(file), "\x00")
		if !ok { // behind the last file
			break
		}
		v, err := strconv.ParseUint(version, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", namesFile(dir), errDamaged)
		}
		all = append(all, named{strings.Split(names, "\x00"), scan.Version(v)})
	}
	return all, nil
}

// save makes the memory that of the next run. It is written before a batch is acknowledged and says
// then at most too much, which costs a copy.
func (o otherNames) save(dir string) error {
	b := []byte(namesHeader)
	for _, file := range o {
		b = append(strconv.AppendUint(b, uint64(file.version), 16), 0)
		for _, name := range file.names {
			b = append(append(b, name...), 0)
		}
		b = append(b, 0)
	}
	return writeSummed(namesFile(dir), b)
}

// divide parts the files that are in doubt from the others.
func (o otherNames) divide(inDoubt func(named) bool) (doubted, rest otherNames) {
	for _, file := range o {
		if inDoubt(file) {
			doubted = append(doubted, file)
		} else {
			rest = append(rest, file)
		}
	}
	return doubted, rest
}

// with is the memory after a run that copied these files: they take the place of what was known of any
// of their names.
func (o otherNames) with(copied otherNames) otherNames {
	fresh := setOf(copied.names()...)
	kept := slices.DeleteFunc(slices.Clone(o), func(file named) bool { return slices.ContainsFunc(file.names, fresh.has) })
	return append(kept, copied...)
}
