package testscripts

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// differences compares two trees by rsync and by what this test itself sees of them, and returns a
// line for each path that is not the same.
func differences(t *testing.T, source, target string) []string {
	t.Helper()
	out, err := exec.Command("rsync", "-aHAXn", "--checksum", "--delete", "-i", "--modify-window=-1", source+"/", target+"/").CombinedOutput()
	if err != nil {
		t.Errorf("rsync: %v", err)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		lines = append(lines, "rsync: "+strings.TrimSuffix(line, "\n"))
	}
	a, b := look(t, source), look(t, target)
	for path := range a {
		if _, ok := b[path]; !ok {
			lines = append(lines, fmt.Sprintf("%q: missing, is %s", path, a[path]))
		} else if a[path] != b[path] {
			lines = append(lines, fmt.Sprintf("%q:\n\tis      %s\n\tcopy is %s", path, a[path], b[path]))
		}
	}
	for path := range b {
		if _, ok := a[path]; !ok {
			lines = append(lines, fmt.Sprintf("%q: not in the source, copy is %s", path, b[path]))
		}
	}
	slices.Sort(lines)
	return lines
}

// look describes everything below dir by what a copy has to have, by path.
func look(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, files := map[string]string{}, map[uint64][]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		rel := strings.TrimPrefix(path[len(dir):], "/")
		entries[rel], err = describe(path, &st)
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			files[st.Ino] = append(files[st.Ino], rel)
		}
		return err
	})
	if err != nil {
		t.Errorf("looking at %s: %v", dir, err)
	}
	for _, names := range files {
		for _, name := range names[1:] {
			entries[name] += fmt.Sprintf(" is also %q", names[0]) // the walk is in order of names
		}
	}
	return entries
}

func describe(path string, st *unix.Stat_t) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%o %d:%d %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		sum, err := hash(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, " %d bytes %.6x", st.Size, sum)
	case unix.S_IFLNK:
		to, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, " -> %q", to)
	case unix.S_IFCHR, unix.S_IFBLK:
		fmt.Fprintf(&b, " %d", st.Rdev)
	}
	attributes, err := xattrs(path)
	return b.String() + attributes, err
}

func hash(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}

func xattrs(path string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return "", fmt.Errorf("xattrs of %s: %w", path, err)
	}
	names := strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		n, err := unix.Lgetxattr(path, name, buf)
		if err != nil {
			return "", fmt.Errorf("xattr %s of %s: %w", name, path, err)
		}
		fmt.Fprintf(&b, " %s=%x", name, buf[:n])
	}
	return b.String(), nil
}
