package changes

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"
)

func cutOf(t testing.TB, j *Journal) *Batch {
	t.Helper()
	id, err := j.cut()
	do(t, err)
	batch, err := load(j.dir, id)
	do(t, err)
	batch.Watch.Backend = "fake"
	return batch
}

func TestCutAndAcknowledge(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	if b := cutOf(t, j); b.ID != "" || len(b.Changes) > 0 {
		t.Errorf("an empty journal gave %+v", b)
	}
	j.Record("a", Content)
	b := cutOf(t, j)
	j.Record("b", Content)
	do(t, j.Flush())
	if got := pathsOf(b.Changes); !slices.Equal(got, []string{"a"}) {
		t.Errorf("batch %q", got)
	}
	if got := pendingPaths(t, dir); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("pending %q while the run is under way", got)
	}
	do(t, b.Acknowledge(nil))
	do(t, b.Return())
	if got := pendingPaths(t, dir); !slices.Equal(got, []string{"b"}) {
		t.Errorf("pending %q after acknowledgement", got)
	}
}

// A name that led to a file for a while is told as such, whatever the journal went through.
func TestFleeting(t *testing.T) {
	record := func(j *Journal, path string, kinds ...Kind) {
		for _, kind := range kinds {
			j.Record(path, kind)
		}
	}
	want := []string{"again", "came", "twice"}
	fleeting := func(j *Journal) (paths []string) {
		b := cutOf(t, j)
		for _, c := range b.Changes {
			if c.Fleeting {
				paths = append(paths, c.Path)
			}
		}
		do(t, b.Return())
		return paths
	}
	j := open(t, t.TempDir())
	record(j, "gone", Gone)
	record(j, "anew", Gone, Content)
	record(j, "written", Attributes, Content, Attributes)
	record(j, "came", Gone, Content, Gone)
	record(j, "again", Gone, Content, Gone, Content)
	record(j, "twice", Content)
	do(t, j.Flush())
	j.rewrite = true // from memory
	do(t, j.Flush())
	do(t, cutOf(t, j).Return())
	record(j, "twice", Gone) // which is in another segment
	for range 2 {
		if got := fleeting(j); !slices.Equal(got, want) {
			t.Errorf("fleeting are %q, want %q", got, want)
		}
	}
}

func TestCutTakesBackOlderBatch(t *testing.T) {
	j := open(t, t.TempDir())
	j.Record("a", Content)
	first := cutOf(t, j)
	j.Record("b", Content)
	second := cutOf(t, j)
	if got := pathsOf(second.Changes); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("second batch %q", got)
	}
	carry := []Change{{Path: "a", Kind: Content, Attempts: 1, Error: "late"}}
	if err := first.Acknowledge(carry); !errors.Is(err, ErrUnknownBatch) {
		t.Errorf("acknowledging the first: %v", err)
	}
	do(t, first.Return())
	changes, _, err := Pending(j.dir)
	do(t, err)
	if !slices.Equal(pathsOf(changes), []string{"a", "b"}) || changes[0].Attempts != 0 {
		t.Errorf("pending %+v", changes)
	}
	do(t, second.Return())
	if err := second.Acknowledge(nil); err != nil { // it is no batch any more: nothing to acknowledge
		t.Error(err)
	}
	if got := pathsOf(cutOf(t, j).Changes); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("third batch %q", got)
	}
}

func TestForeignBatchIsRefused(t *testing.T) {
	j := open(t, t.TempDir())
	j.Record("a", Content)
	b := cutOf(t, j)
	other := *b
	other.ID = "OTHER"
	if err := other.Acknowledge(nil); !errors.Is(err, ErrUnknownBatch) {
		t.Errorf("unknown id: %v", err)
	}
	if _, err := load(j.dir, "OTHER"); !errors.Is(err, ErrUnknownBatch) {
		t.Errorf("loading: %v", err)
	}
	again := *b
	do(t, b.Acknowledge(nil))
	if err := again.Acknowledge(nil); !errors.Is(err, ErrUnknownBatch) {
		t.Errorf("acknowledging twice: %v", err)
	}
}

func TestCarriedChangesKeepTheirHistory(t *testing.T) {
	j := open(t, t.TempDir())
	j.Record("bad", Attributes)
	j.Record("good", Content)
	j.RecordFile("handle")
	b := cutOf(t, j)
	failed := b.Changes[1]
	first := failed.Since
	failed.Attempts, failed.Error = 1, "permission denied"
	file := b.Changes[0]
	file.Attempts, file.Error = 1, "stale"
	do(t, b.Acknowledge([]Change{failed, file}))

	j.Record("bad", Content) // it changes once more
	b = cutOf(t, j)
	want := []Change{file, {Path: "bad", Kind: Content, Since: first, Attempts: 1, Error: "permission denied"}}
	if !reflect.DeepEqual(b.Changes, want) {
		t.Fatalf("second batch\n %+v, want\n %+v", b.Changes, want)
	}
	again := b.Changes[1]
	again.Attempts, again.Error = 2, "still not"
	do(t, b.Acknowledge([]Change{again}))

	b = cutOf(t, j)
	if !reflect.DeepEqual(b.Changes, []Change{again}) {
		t.Fatalf("third batch %+v", b.Changes)
	}
	do(t, b.Acknowledge(nil))
	j.Record("bad", Content)
	if b = cutOf(t, j); len(b.Changes) != 1 || b.Changes[0].Attempts != 0 || b.Changes[0].Error != "" {
		t.Errorf("after success: %+v", b.Changes)
	}
}

// TestCarryAfterCrash has the same failure in the journal twice, as after a crash between the two
// halves of an acknowledgement.
func TestCarryAfterCrash(t *testing.T) {
	dir := t.TempDir()
	once := Change{Path: "bad", Kind: Content, Since: someTime, Attempts: 1, Error: "first"}
	twice := Change{Path: "bad", Kind: Gone, Since: someTime.Add(time.Hour), Attempts: 2, Error: "second"}
	do(t, Add(dir, []Change{once}))
	do(t, Add(dir, []Change{twice}))
	changes, _, err := Pending(dir)
	want := Change{Path: "bad", Kind: Gone, Since: someTime, Attempts: 2, Error: "second"}
	if err != nil || len(changes) != 1 || changes[0] != want {
		t.Errorf("got %+v, want %+v", changes, want)
	}
}

func TestFailedStaysBelowSubtree(t *testing.T) {
	dir := t.TempDir()
	failed := Change{Path: "d/bad", Kind: Content, Since: someTime, Attempts: 1, Error: "no"}
	do(t, Add(dir, []Change{failed}))
	do(t, Add(dir, []Change{{Path: "d", Kind: Subtree}, {Path: "d/x", Kind: Content}}))
	if got := pendingPaths(t, dir); !slices.Equal(got, []string{"d", "d/bad"}) {
		t.Errorf("pending %q", got)
	}
}

func TestUnwatchedRunMovesKnown(t *testing.T) {
	dir := t.TempDir()
	b := cutAlone(t, dir)
	if len(b.Gaps) != 1 || !b.Gaps[0].Since.IsZero() || b.Watch.Backend != "" {
		t.Fatalf("first batch %+v", b)
	}
	do(t, b.Acknowledge(nil))
	if !KnownUntil(dir).Equal(b.Cut) {
		t.Errorf("known until %v, cut at %v", KnownUntil(dir), b.Cut)
	}
	next := cutAlone(t, dir)
	if len(next.Gaps) != 1 || !next.Gaps[0].Since.Equal(b.Cut) {
		t.Errorf("second batch %+v", next)
	}
	do(t, next.Return())
	for range 3 { // runs that fail: the gap stays one, with its start
		failing := cutAlone(t, dir)
		if len(failing.Gaps) != 1 || !failing.Gaps[0].Since.Equal(b.Cut) {
			t.Errorf("after failed runs: %+v", failing.Gaps)
		}
	}
}

// TestAcknowledgeWhileWriting cuts and acknowledges while paths come in: each is in some batch.
func TestAcknowledgeWhileWriting(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	const n = 20_000
	names := slices.Collect(func(yield func(string) bool) { spreadPaths(n)(yield) })
	var writing sync.WaitGroup
	writing.Go(func() {
		for i, name := range names {
			j.Record(name, Content)
			if i%100 == 0 {
				if err := j.Flush(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	seen := map[string]bool{}
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()
	for finished := false; !finished; {
		select {
		case <-done:
			finished = true
		default:
		}
		b := cutOf(t, j)
		if len(b.Gaps) > 0 {
			t.Fatalf("gaps %v", b.Gaps)
		}
		for _, c := range b.Changes {
			seen[c.Path] = true
		}
		if len(seen)%3 == 0 {
			do(t, b.Return())
			continue
		}
		var carry []Change
		if len(b.Changes) > 0 {
			carry = b.Changes[:1]
			carry[0].Attempts++
		}
		do(t, b.Acknowledge(carry))
	}
	if len(seen) != n {
		t.Errorf("%d of %d paths were in a batch", len(seen), n)
	}
}

func TestReadsThroughUnreadableSegment(t *testing.T) {
	dir := t.TempDir()
	do(t, Add(dir, []Change{{Path: "a", Kind: Content}}))
	do(t, os.Symlink("/proc/self/mem", segmentPath(dir, 2))) // reads as EIO
	do(t, Add(dir, []Change{{Path: "b", Kind: Content}}))
	changes, gaps, err := Pending(dir)
	if err != nil || !slices.Equal(pathsOf(changes), []string{"a", "b"}) || len(gaps) != 1 || !gaps[0].Since.IsZero() {
		t.Errorf("pending %q, gaps %v, %v", pathsOf(changes), gaps, err)
	}
}
