package changes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func open(t testing.TB, dir string) *Journal {
	t.Helper()
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func pendingPaths(t testing.TB, dir string) []string {
	t.Helper()
	changes, gaps, err := Pending(dir)
	if err != nil || len(gaps) > 0 {
		t.Fatalf("pending: gaps %v, %v", gaps, err)
	}
	return pathsOf(changes)
}

func pathsOf(changes []Change) []string {
	var paths []string
	for _, c := range changes {
		paths = append(paths, c.Path)
	}
	return paths
}

func do(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestJournalKeeps(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	before := time.Now().Add(-2 * time.Second)
	j.Record("b", Content)
	j.Record("a\n\xff", Attributes)
	j.Record("b", Attributes)
	j.RecordFile("handle")
	j.RecordFile("handle")
	j.RecordGap(Gap{Reason: "overflow", Subtree: "s", Since: someTime})
	do(t, j.Flush())
	changes, gaps, err := Pending(dir)
	do(t, err)
	if len(changes) != 3 || changes[0].Handle != "handle" || changes[1].Path != "a\n\xff" || changes[1].Kind != Attributes ||
		changes[2].Path != "b" || changes[2].Kind != Content || changes[2].Since.Before(before) {
		t.Errorf("changes: %+v", changes)
	}
	if len(gaps) != 1 || gaps[0].Reason != "overflow" || gaps[0].Subtree != "s" || !gaps[0].Since.Equal(someTime) || gaps[0].Until.Before(before) {
		t.Errorf("gaps: %+v", gaps)
	}
}

func TestJournalBusy(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	if _, err := Open(dir); !errors.Is(err, ErrBusy) {
		t.Errorf("second writer: %v", err)
	}
	do(t, j.Close())
	do(t, open(t, dir).Close())
}

func TestJournalClosed(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	j.Record("kept", Content)
	do(t, j.Close())
	j.Record("late", Content)
	if err := j.Flush(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("flush: %v", err)
	}
	if _, err := j.cut(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("cut: %v", err)
	}
	if err := j.Beat(time.Now()); !errors.Is(err, os.ErrClosed) || !KnownUntil(dir).IsZero() {
		t.Errorf("beat: %v", err)
	}
	if got := pendingPaths(t, dir); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("pending %q", got)
	}
	do(t, j.Close())
}

// TestJournalStaysShort has one name come and go for a long time.
func TestJournalStaysShort(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	j.Record("first", Content)
	longest := int64(0)
	for i := range 300_000 {
		j.Record("lock", Content)
		j.Record("lock", Gone)
		if i%1000 == 0 {
			do(t, j.Flush())
			longest = max(longest, journalSize(t, dir))
		}
	}
	if longest > 2*spreadMin {
		t.Errorf("%d bytes for one name", longest)
	}
	do(t, j.Flush())
	if got := pendingPaths(t, dir); !slices.Equal(got, []string{"first", "lock"}) {
		t.Errorf("pending %q", got)
	}
}

func journalSize(t *testing.T, dir string) (size int64) {
	t.Helper()
	numbers, err := segments(dir)
	do(t, err)
	for _, n := range numbers {
		info, err := os.Stat(segmentPath(dir, n))
		do(t, err)
		size += info.Size()
	}
	return size
}

func TestJournalBounds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	for i := range fileMax + 10 {
		j.RecordFile(Handle(fmt.Sprint(i)))
	}
	for i := range 2 * gapMax {
		j.RecordGap(Gap{Reason: "mounted", Subtree: fmt.Sprint(i), Since: someTime.Add(time.Duration(-i))})
	}
	do(t, j.Flush())
	changes, gaps, err := Pending(dir)
	do(t, err)
	if len(changes) != fileMax {
		t.Errorf("%d files", len(changes))
	}
	all := slices.IndexFunc(gaps, func(g Gap) bool { return g.Subtree == "." && g.Since.Equal(someTime.Add(1-2*gapMax)) })
	if len(gaps) > gapMax+1 || all < 0 {
		t.Errorf("%d gaps; %+v", len(gaps), gaps[len(gaps)-1])
	}
}

// TestJournalFullDisk: what does not fit is kept in memory, Flush says so, no heartbeat claims that
// it is safe, and it all arrives when there is room.
func TestJournalFullDisk(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(smallDisk(t), "journal")
	j := open(t, dir)
	j.Record("first", Content)
	t0 := time.Now().Truncate(0)
	do(t, j.Beat(t0))
	filler := filepath.Join(filepath.Dir(dir), "filler")
	fillDisk(t, filler)
	for i := range 60_000 {
		j.Record(fmt.Sprintf("directory-%d/file-%d", i/100, i), Content)
	}
	start := time.Now()
	for i := range 100_000 {
		j.Record(fmt.Sprintf("directory-%d/file-%d", i%600, i), Gone)
	}
	if each := time.Since(start) / 100_000; each > 50*time.Microsecond {
		t.Errorf("Record takes %v on a full disk", each)
	}
	if err := j.Flush(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("flush: %v", err)
	}
	if err := j.Beat(time.Now()); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("beat: %v", err)
	}
	if _, err := j.cut(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("cut: %v", err)
	}
	if !KnownUntil(dir).Equal(t0) {
		t.Errorf("known until %v, want %v", KnownUntil(dir), t0)
	}
	if got := pendingPaths(t, dir); !slices.Contains(got, "first") {
		t.Error("what was durable is not there any more")
	}
	do(t, os.Remove(filler))
	do(t, unix.Mount("", filepath.Dir(dir), "", unix.MS_REMOUNT, "size=64m"))
	id, err := j.cut()
	do(t, err)
	batch, err := load(dir, id)
	do(t, err)
	if len(batch.Changes) < 60_001 || len(batch.Gaps) > 0 {
		t.Errorf("%d changes and gaps %v after there was room", len(batch.Changes), batch.Gaps)
	}
}

// TestJournalNearlyFullDisk: a little room is enough for what is new, also beside a long segment.
func TestJournalNearlyFullDisk(t *testing.T) {
	dir := filepath.Join(smallDisk(t), "journal")
	j := open(t, dir)
	for i := range 18_000 {
		j.Record(fmt.Sprintf("d%d/%d", i/1000, i), Content)
	}
	do(t, j.Flush())
	filler := filepath.Join(filepath.Dir(dir), "filler")
	fillDisk(t, filler)
	for i := range 1000 {
		j.Record(fmt.Sprintf("e/%d", i), Content)
	}
	if err := j.Flush(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("flush: %v", err)
	}
	do(t, os.Truncate(filler, 4096))
	do(t, j.Flush())
	if n := len(pendingPaths(t, dir)); n != 19_000 {
		t.Errorf("%d pending", n)
	}
}

// smallDisk mounts a file system of 1 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Skipf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	do(t, err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

func TestJournalReadOnly(t *testing.T) {
	disk := smallDisk(t)
	dir := filepath.Join(disk, "journal")
	j := open(t, dir)
	j.Record("first", Content)
	do(t, j.Close())
	do(t, unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if _, err := Open(dir); !errors.Is(err, unix.EROFS) {
		t.Errorf("open: %v", err)
	}
	if err := Add(dir, []Change{{Path: "x", Kind: Content}}); !errors.Is(err, unix.EROFS) {
		t.Errorf("add: %v", err)
	}
	if got := pendingPaths(t, dir); !slices.Equal(got, []string{"first"}) {
		t.Errorf("pending %q", got)
	}
}

// TestJournalRewrites has the state after a failed fdatasync: the segment cannot be trusted, so all is
// written again.
func TestJournalRewrites(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	j.Record("a", Content)
	do(t, j.Flush())
	do(t, os.WriteFile(segmentPath(dir, 1), []byte("what the disk made of it"), 0o600))
	j.rewrite = true
	j.Record("b", Content)
	do(t, j.Flush())
	if numbers, _ := segments(dir); !slices.Equal(numbers, []uint64{2}) {
		t.Errorf("segments %v", numbers)
	}
	if got := pendingPaths(t, dir); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("pending %q", got)
	}
}

func TestMendTornTail(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	j.Record("a", Content)
	j.Record("b", Content)
	known := time.Now().Truncate(0)
	do(t, j.Beat(known))
	data, err := os.ReadFile(segmentPath(dir, 1))
	do(t, err)
	do(t, j.Close())
	first := len(segmentHeader) + len(appendChange(nil, Change{Path: "a", Kind: Content, Since: time.Now()}))
	for n := first; n < len(data); n++ {
		crashed := t.TempDir()
		do(t, setKnownUntil(crashed, known))
		do(t, os.WriteFile(segmentPath(crashed, 1), data[:n], 0o600))
		if got := pendingPaths(t, crashed); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("%d bytes: pending %q before mending", n, got)
		}
		do(t, open(t, crashed).Close())
		changes, gaps, err := Pending(crashed)
		do(t, err)
		torn := len(gaps) == 1 && gaps[0].Since.Equal(known) && strings.Contains(gaps[0].Reason, "damaged")
		if !slices.Equal(pathsOf(changes), []string{"a"}) || torn != (n > first) {
			t.Errorf("%d bytes: pending %q, gaps %v", n, pathsOf(changes), gaps)
		}
	}
}

func TestPendingPassesOverWhatIsBeingWritten(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	j := open(t, dir)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 600 {
			j.Record(fmt.Sprint(i%50), Content)
			j.Record(fmt.Sprint(i%50), Gone)
			j.mu.Lock()
			j.rewrite = i%2 == 0
			j.mu.Unlock()
			err := j.Flush()
			if i%100 == 0 {
				err = errors.Join(err, Add(dir, []Change{{Path: "added", Kind: Content}}))
			}
			if err != nil {
				t.Error(err)
			}
		}
	}()
	for most, writing := 0, true; writing; {
		select {
		case <-done:
			writing = false
		default:
		}
		n := len(pendingPaths(t, dir))
		if n < most {
			t.Errorf("%d pending after %d", n, most)
		}
		most = n
	}
}

func TestKnownUntil(t *testing.T) {
	dir := t.TempDir()
	if !KnownUntil(dir).IsZero() {
		t.Error("something is known of an empty journal")
	}
	now := time.Now()
	do(t, setKnownUntil(dir, now))
	do(t, setKnownUntil(dir, now.Add(time.Nanosecond)))
	if got := KnownUntil(dir); !got.Equal(now.Add(time.Nanosecond)) {
		t.Errorf("known until %v", got)
	}
	do(t, setKnownUntil(dir, now.Add(time.Hour)))
	if g := unwatched("down", dir); !g.Since.Equal(now.Add(time.Hour)) || !strings.Contains(g.Reason, "clock") {
		t.Errorf("with the clock set back: %+v", g)
	}
	do(t, os.WriteFile(filepath.Join(dir, "known"), []byte("rubbish"), 0o600))
	if !KnownUntil(dir).IsZero() {
		t.Error("rubbish is known")
	}
}

func BenchmarkRecord(b *testing.B) {
	j := open(b, b.TempDir())
	var paths []string
	for path := range spreadPaths(100_000) {
		paths = append(paths, path)
	}
	for b.Loop() {
		for i, path := range paths {
			j.Record(path, Content)
			if i%20_000 == 0 {
				b.StopTimer()
				do(b, j.Flush())
				b.StartTimer()
			}
		}
		b.StopTimer()
		_, err := j.cut()
		do(b, err)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(paths)), "ns/path")
}

// What is in doubt below a directory that has collapsed is on the disk as it is in memory.
func TestJournalBelowCollapsed(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	for i := range collapseAt + 1 {
		j.Record(fmt.Sprintf("d/%d", i), Content)
	}
	do(t, j.Flush())
	j.Record("d/s", Subtree)
	j.RecordRename("d/old", "d/new", true)
	do(t, j.Flush())
	changes, _, err := Pending(dir)
	do(t, err)
	got := map[string]Kind{}
	for _, c := range changes {
		got[c.Path] = c.Kind
	}
	if got["d"] != Directory || got["d/s"] != Subtree || got["d/new"] != Subtree {
		t.Errorf("pending %v", got)
	}
}

// A journal that is removed or replaced under its writer loses nothing that memory holds, and says that
// something may be missing.
func TestJournalReplaced(t *testing.T) {
	for name, replace := range map[string]func(dir string) error{
		"removed": os.RemoveAll,
		"emptied": func(dir string) error { return os.Remove(segmentPath(dir, 1)) },
		"restored": func(dir string) error {
			return errors.Join(os.Rename(dir, dir+".away"), os.CopyFS(dir, os.DirFS(dir+".old")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir() + "/journal"
			j := open(t, dir)
			do(t, os.CopyFS(dir+".old", os.DirFS(dir)))
			j.Record("a", Content)
			do(t, j.Flush())
			do(t, replace(dir))
			j.Record("b", Content)
			if _, err := j.cut(); err != nil {
				t.Fatal(err)
			}
			changes, gaps, err := Pending(dir)
			if err != nil || !slices.Equal(pathsOf(changes), []string{"a", "b"}) || len(gaps) != 1 || gaps[0].Subtree != "." {
				t.Errorf("%v, %v, %v", changes, gaps, err)
			}
			if _, err := Open(dir); !errors.Is(err, ErrBusy) {
				t.Errorf("another writer: %v", err)
			}
		})
	}
}
