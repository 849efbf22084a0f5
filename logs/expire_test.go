package logs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestExpire(t *testing.T) {
	for _, test := range []struct {
		name   string
		states []State // oldest first
		keep   int
		want   []int // newest first
	}{
		{"enough room", []State{OK, OK}, 2, []int{1, 0}},
		{"the oldest go", []State{OK, Failed, OK, Failed}, 2, []int{3, 2}},
		{"newest success", []State{OK, OK, Failed, Failed, Failed}, 2, []int{4, 3, 1}},
		{"newest failure", []State{Failed, Refused, OK, OK}, 1, []int{3, 1}},
		{"skipped is neither", []State{OK, Failed, Skipped, Skipped, Skipped}, 2, []int{4, 3, 1, 0}},
		{"none to keep", []State{OK, Partial, OK, Skipped}, 0, []int{2, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := openList(t)
			other := finish(t, l, "other", OK)
			var runs []Run
			for _, state := range test.states {
				runs = append(runs, finish(t, l, "home", state))
			}
			if err := l.Expire("home", test.keep); err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, i := range test.want {
				want = append(want, runs[i].ID)
			}
			got, errs := collect(l, Filter{Profiles: []string{"home"}})
			if !slices.Equal(ids(got), want) || errs != nil {
				t.Errorf("left: %v, %v; want %v", ids(got), errs, want)
			}
			for _, run := range runs {
				_, err := os.Stat(l.logPath(run.ID) + ".zst")
				if slices.Contains(want, run.ID) != (err == nil) {
					t.Errorf("log of %s: %v", run.ID, err)
				}
			}
			readLog(t, l, other.ID)
		})
	}
}

// A verification is no success that a copy could be expired for.
func TestExpireVerification(t *testing.T) {
	l := openList(t)
	copied := finish(t, l, "home", OK)
	for range 3 {
		log, err := l.Begin("home")
		if err != nil {
			t.Fatal(err)
		}
		if err := log.End(Run{Mode: Verify, State: OK}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Expire("home", 1); err != nil {
		t.Fatal(err)
	}
	if left, errs := collect(l, Filter{}); len(left) != 2 || left[1].ID != copied.ID || errs != nil {
		t.Errorf("left: %v, %v", ids(left), errs)
	}
}

func TestExpireKeepsWhatItCannotRead(t *testing.T) {
	l := openList(t)
	runs := writeIndex(t, l, 6)
	damage(t, l.indexPath(), 10)
	if err := l.Expire("srv", 1); err != nil {
		t.Fatal(err)
	}
	got, errs := collect(l, Filter{})
	want := []string{runs[5].ID, runs[4].ID, runs[3].ID, runs[2].ID}
	if !slices.Equal(ids(got), want) || len(errs) != 1 || !errors.Is(errs[0], ErrDamaged) {
		t.Errorf("left: %v, %v; want %v and the damaged line", ids(got), errs, want)
	}
}

func TestExpireSeldomRewrites(t *testing.T) {
	l := openList(t)
	writeIndex(t, l, 2*405) // half of them of home
	before, err := os.Stat(l.indexPath())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		keep, left int
		rewritten  bool
	}{{402, 405, false}, {400, 400, true}} {
		if err := l.Expire("home", test.keep); err != nil {
			t.Fatal(err)
		}
		after, err := os.Stat(l.indexPath())
		if err != nil {
			t.Fatal(err)
		}
		got, _ := collect(l, Filter{Profiles: []string{"home"}})
		if len(got) != test.left || os.SameFile(before, after) == test.rewritten {
			t.Errorf("keep %d: %d left, rewritten: %v", test.keep, len(got), !os.SameFile(before, after))
		}
	}
}

func TestExpireRemovesEmptyMonths(t *testing.T) {
	l := openList(t)
	old := writeIndex(t, l, 3)
	for _, run := range old {
		path := l.logPath(run.ID)
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.remove(map[string]bool{old[0].ID: true, old[1].ID: true, old[2].ID: true}); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(l.dir, "runs", "*")); left != nil {
		t.Errorf("left: %v", left)
	}
}

// TestShortestLine holds what count takes for granted.
func TestShortestLine(t *testing.T) {
	line, err := encodeLine(record{Run: Run{ID: "20261121T025959Z-4f2a"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(line) < shortestLine {
		t.Errorf("a line of %d bytes; count wants %d", len(line), shortestLine)
	}
}

func BenchmarkExpireNothing(b *testing.B) {
	l := openList(b)
	writeIndex(b, l, 100000)
	for b.Loop() {
		if err := l.Expire("home", 50000); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAll(b *testing.B) {
	l := openList(b)
	writeIndex(b, l, 100000)
	b.Run("limit 20", func(b *testing.B) {
		for b.Loop() {
			collect(l, Filter{Limit: 20})
		}
	})
	b.Run("state", func(b *testing.B) {
		for b.Loop() {
			collect(l, Filter{State: Refused})
		}
	})
	b.Run("get", func(b *testing.B) {
		for b.Loop() {
			l.Get("20241121T0007")
		}
	})
}
