package sync

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// A watcher that hears only names cannot tell which file was written through a name that is gone
// before anybody looked, nor what other names that file has. So runs after such a watcher remember the
// names of every file with several as they were last copied, and when one of them is touched, all are
// in doubt. A watcher that knows files by their handles needs no such memory.

// otherNames is a memory of files with several names, each file's names together.
type otherNames [][]string

func namesFile(dir string) string { return filepath.Join(dir, "names") }

// recallNames reads the file: names with a zero byte behind each, and one more behind a file's last;
// errDamaged if it is not what was written.
func recallNames(dir string) (otherNames, error) {
	data, err := os.ReadFile(namesFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	text, err := summed(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", namesFile(dir), err)
	}
	var all otherNames
	for group := range bytes.SplitSeq(text, []byte{0, 0}) {
		var names []string
		for name := range bytes.SplitSeq(group, []byte{0}) {
			if len(name) > 0 {
				names = append(names, string(name))
			}
		}
		if len(names) > 1 {
			all = append(all, names)
		}
	}
	return all, nil
}

// save makes the memory that of the next run. It is written before a batch is acknowledged and says
// then at most too much, which costs a copy.
func (o otherNames) save(dir string) error {
	var b bytes.Buffer
	for _, names := range o {
		for _, name := range names {
			b.WriteString(name)
			b.WriteByte(0)
		}
		b.WriteByte(0)
	}
	return writeSummed(namesFile(dir), b.Bytes())
}

// touched gives the names of all files of which at least one name is in doubt.
func (o otherNames) touched(inDoubt func(path string) bool) []string {
	var names []string
	for _, group := range o {
		if slices.ContainsFunc(group, inDoubt) {
			names = append(names, group...)
		}
	}
	return names
}

// with is the memory after a run that copied these files: they take the place of what was known of any
// of their names.
func (o otherNames) with(copied [][]string) otherNames {
	fresh := set{}
	for _, names := range copied {
		for _, name := range names {
			fresh.add(name)
		}
	}
	kept := slices.DeleteFunc(slices.Clone(o), func(names []string) bool { return slices.ContainsFunc(names, fresh.has) })
	return append(kept, copied...)
}
