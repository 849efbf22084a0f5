package sync

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A subvolume that came to its place by a rename or as a snapshot need not show it by its ctime.
func TestSubvolumesMayBeMoved(t *testing.T) {
	gap := time.Now()
	old, renewed := gap.Add(-time.Hour), gap.Add(time.Minute)
	for _, test := range []struct {
		name  string
		above time.Time // the ctime of the directory that the subvolume is in
		want  []string
	}{
		{"nothing came", old, nil},
		{"something came", renewed, []string{"x"}},
	} {
		f := &findings{subvolumes: true, since: gap, renewed: set{}, relisted: set{}, seen: newSeen(gap, gap)}
		f.visit(".", directoryAt(256, test.above), 1)
		f.visit("d", directoryAt(257, old), 2)
		f.visit("x", directoryAt(256, old), 3)
		f.visit("x/d", directoryAt(257, old), 4)
		if !slices.Equal(f.subtrees, test.want) {
			t.Errorf("%s: subtrees %q, want %q", test.name, f.subtrees, test.want)
		}
	}
}

func directoryAt(inode uint64, ctime time.Time) *unix.Stat_t {
	return &unix.Stat_t{Ino: inode, Mode: unix.S_IFDIR, Ctim: unix.NsecToTimespec(ctime.UnixNano())}
}
