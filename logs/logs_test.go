package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func openList(t testing.TB) *List {
	t.Helper()
	l, err := Open(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// finish begins a run and ends it.
func finish(t testing.TB, l *List, profile string, state State) Run {
	t.Helper()
	log, err := l.Begin(profile)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.End(Run{State: state}); err != nil {
		t.Fatal(err)
	}
	return log.Run()
}

// collect returns what All yields, runs and errors apart.
func collect(l *List, filter Filter) (runs []Run, errs []error) {
	for run, err := range l.All(filter) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		runs = append(runs, run)
	}
	return runs, errs
}

func ids(runs []Run) (ids []string) {
	for _, run := range runs {
		ids = append(ids, run.ID)
	}
	return ids
}

func readLog(t testing.TB, l *List, id string) string {
	t.Helper()
	r, err := l.OpenLog(id)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// writeIndex makes an index of n runs, one a minute, and returns them oldest first. Every third
// failed; the profiles alternate.
func writeIndex(t testing.TB, l *List, n int) (runs []Run) {
	t.Helper()
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	start := time.Date(2024, 11, 21, 0, 0, 0, 0, time.UTC)
	var index []byte
	for i := range n {
		begun := start.Add(time.Duration(i) * time.Minute)
		run := Run{
			ID: fmt.Sprintf("%s-%04x", begun.Format(idTime), i%65536), Profile: []string{"home", "srv"}[i%2],
			State: []State{OK, OK, Failed}[i%3], Mode: "changes", Engine: "rsync", Backend: "fanotify",
			Started: begun, Ended: begun.Add(time.Second), Listed: i, Bytes: int64(i) << 20,
		}
		line, err := encodeLine(record{Run: run, Indexed: run.Ended})
		if err != nil {
			t.Fatal(err)
		}
		runs, index = append(runs, run), append(index, line...)
	}
	if err := os.WriteFile(l.indexPath(), index, 0o600); err != nil {
		t.Fatal(err)
	}
	return runs
}

func TestAllFilter(t *testing.T) {
	l := openList(t)
	runs := writeIndex(t, l, 12)
	at := func(i int) time.Time { return runs[i].Started }
	for _, test := range []struct {
		name   string
		filter Filter
		want   []int
	}{
		{"everything", Filter{}, []int{11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}},
		{"limit", Filter{Limit: 2}, []int{11, 10}},
		{"state", Filter{State: Failed}, []int{11, 8, 5, 2}},
		{"profile", Filter{Profiles: []string{"home"}}, []int{10, 8, 6, 4, 2, 0}},
		{"profiles", Filter{Profiles: []string{"other", "srv"}}, []int{11, 9, 7, 5, 3, 1}},
		{"since includes", Filter{Since: at(9)}, []int{11, 10, 9}},
		{"until excludes", Filter{Until: at(2)}, []int{1, 0}},
		{"all of it", Filter{[]string{"srv"}, OK, at(1), at(9), 1}, []int{7}},
		{"none", Filter{State: Refused}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var want []string
			for _, i := range test.want {
				want = append(want, runs[i].ID)
			}
			got, errs := collect(l, test.filter)
			if !slices.Equal(ids(got), want) || errs != nil {
				t.Errorf("got %v, %v; want %v", ids(got), errs, want)
			}
		})
	}
}

func TestAllReadsOnlyAsFarAsNeeded(t *testing.T) {
	l := openList(t)
	runs := writeIndex(t, l, 1000)
	damage(t, l.indexPath(), 10)
	for _, filter := range []Filter{{Limit: 5}, {Since: runs[500].Started}} {
		if _, errs := collect(l, filter); errs != nil {
			t.Errorf("%+v: the damaged first line was read: %v", filter, errs)
		}
	}
	if _, errs := collect(l, Filter{}); len(errs) != 1 {
		t.Errorf("errors of reading everything: %v; want one", errs)
	}
}

// damage changes one byte of a file.
func damage(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	b[0] ^= 0x10
	_, writeErr := f.WriteAt(b[:], at)
	if err := errors.Join(err, writeErr, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedLine(t *testing.T) {
	l := openList(t)
	runs := writeIndex(t, l, 5)
	info, err := os.Stat(l.indexPath())
	if err != nil {
		t.Fatal(err)
	}
	damage(t, l.indexPath(), info.Size()/2)
	got, errs := collect(l, Filter{})
	want := []string{runs[4].ID, runs[3].ID, runs[1].ID, runs[0].ID}
	if !slices.Equal(ids(got), want) || len(errs) != 1 || !errors.Is(errs[0], ErrDamaged) {
		t.Errorf("got %v, %v; want all but the third, and its damage once", ids(got), errs)
	}
	if _, err := l.Get(runs[0].ID); err != nil {
		t.Errorf("Get of the run behind the damage: %v", err)
	}
	if _, err := l.Get(runs[2].ID); !errors.Is(err, ErrNoRun) || !errors.Is(err, ErrDamaged) {
		t.Errorf("Get of the damaged run: %v; want ErrNoRun and ErrDamaged", err)
	}
}

func TestTornLineSwallowsNothing(t *testing.T) {
	for _, test := range []struct {
		name string
		torn func(line []byte) []byte
		kept bool
	}{
		{"half a line", func(line []byte) []byte { return line[:len(line)/2] }, false},
		{"only the newline is missing", func(line []byte) []byte { return line[:len(line)-1] }, true},
		{"zeros of a power cut", func(line []byte) []byte { return make([]byte, 4096) }, false},
		{"zeros longer than a line can be", func(line []byte) []byte { return make([]byte, 5*maxLine) }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := openList(t)
			first := finish(t, l, "home", OK)
			line, err := encodeLine(record{Run: Run{ID: "20261121T025959Z-4f2a"}})
			if err != nil {
				t.Fatal(err)
			}
			appendTo(t, l.indexPath(), test.torn(line))
			want := []string{first.ID}
			if test.kept {
				want = []string{"20261121T025959Z-4f2a", first.ID}
			}
			if got, errs := collect(l, Filter{}); !slices.Equal(ids(got), want) || errs != nil {
				t.Errorf("with the torn line: %v, %v; want %v", ids(got), errs, want)
			}
			last := finish(t, l, "home", Failed)
			want = append([]string{last.ID}, want...)
			if got, errs := collect(l, Filter{}); !slices.Equal(ids(got), want) || errs != nil {
				t.Errorf("after the next run: %v, %v; want %v", ids(got), errs, want)
			}
		})
	}
}

func appendTo(t *testing.T, path string, text []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestGet(t *testing.T) {
	l := openList(t)
	for _, id := range []string{"latest", "2026", ""} {
		if _, err := l.Get(id); !errors.Is(err, ErrNoRun) {
			t.Errorf("Get(%q) of an empty list: %v; want ErrNoRun", id, err)
		}
	}
	runs := writeIndex(t, l, 20)
	for _, test := range []struct {
		id   string
		want string
		err  error
	}{
		{"latest", runs[19].ID, nil},
		{runs[3].ID, runs[3].ID, nil},
		{"20241121T0007", runs[7].ID, nil},
		{"20241121T000", "", ErrAmbiguous},
		{"20241121T0030", "", ErrNoRun},
		{"../../etc/passwd", "", ErrNoRun},
		{"", "", ErrNoRun},
	} {
		run, err := l.Get(test.id)
		if run.ID != test.want || !errors.Is(err, test.err) {
			t.Errorf("Get(%q) = %q, %v; want %q, %v", test.id, run.ID, err, test.want, test.err)
		}
	}
	log, err := l.Begin("home")
	if err != nil {
		t.Fatal(err)
	}
	if run, err := l.Get("latest"); run.ID != log.Run().ID || err != nil {
		t.Errorf("latest is %s, %v; want the run that goes on, %s", run.ID, err, log.Run().ID)
	}
}

func TestIndexedOrderSurvivesClock(t *testing.T) {
	l := openList(t)
	ahead := time.Now().Add(48 * time.Hour).UTC()
	rec := record{Run: Run{ID: newID(ahead), State: OK, Started: ahead, Ended: ahead}}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.addToIndex(rec); err != nil {
		t.Fatal(err)
	}
	// The clock was put right; the run of the wrong time is still found behind this one.
	finish(t, l, "home", OK)
	got, errs := collect(l, Filter{Since: ahead})
	if !slices.Equal(ids(got), []string{rec.ID}) || errs != nil {
		t.Errorf("since %v: %v, %v; want %s", ahead, ids(got), errs, rec.ID)
	}
}

func TestOpenRefusesFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Open of a file: %v", err)
	}
}

func TestModes(t *testing.T) {
	l := openList(t)
	finish(t, l, "home", OK)
	if _, err := l.Begin("home"); err != nil {
		t.Fatal(err)
	}
	err := filepath.Walk(l.dir, func(path string, info os.FileInfo, err error) error {
		want := os.FileMode(0o600)
		if err == nil && info.IsDir() {
			want = 0o700
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s has mode %v; want %v", path, info.Mode(), want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestConcurrentRunsAndReaders(t *testing.T) {
	l := openList(t)
	const writers, each = 20, 3
	stop := make(chan struct{})
	var readers, runs sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					readEverything(t, l)
				}
			}
		})
	}
	for range writers {
		runs.Go(func() {
			for range each {
				log, err := l.Begin("home")
				if err != nil {
					t.Error(err)
					continue
				}
				log.Printf("hello")
				err = errors.Join(log.End(Run{State: OK}), l.Expire("home", writers*each), l.Settle())
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	runs.Wait()
	close(stop)
	readers.Wait()
	got, errs := collect(l, Filter{State: OK})
	if len(got) != writers*each || errs != nil {
		t.Errorf("%d runs, %v; want %d", len(got), errs, writers*each)
	}
}

// readEverything reports what a reader beside writers must not see: an error, a run twice, a run
// without its log.
func readEverything(t *testing.T, l *List) {
	runs, errs := collect(l, Filter{})
	if errs != nil {
		t.Error(errs)
	}
	sorted := slices.Sorted(slices.Values(ids(runs)))
	if len(slices.Compact(sorted)) != len(runs) {
		t.Errorf("doubles in %v", ids(runs))
	}
	if len(runs) == 0 {
		return
	}
	run := runs[len(runs)-1]
	r, err := l.openLog(run.ID)
	if errors.Is(err, os.ErrNotExist) && run.State == Running { // its log is just being made
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	_, err = io.Copy(io.Discard, r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Error(err)
	}
}
