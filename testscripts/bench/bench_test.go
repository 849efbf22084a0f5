package main

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestMain lets the test binary be the writer, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{writeCommand, discardCommand, walkCommand}, os.Args[1]) {
		main()
	}
	os.Exit(m.Run())
}

// A small run must fill every cell and leave nothing behind.
func TestSmallRun(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("fanotify needs root")
	}
	if _, err := exec.LookPath("rsync"); err != nil {
		t.Skip("rsync is not installed")
	}
	dir := t.TempDir()
	if err := checkDisk(dir, 30); err != nil {
		t.Skip(err)
	}
	var out bytes.Buffer
	err := run(t.Context(), options{dir: dir, dirs: 30, rounds: 1, only: "ready,write,copy"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	table := out.String()
	for _, want := range []string{"watcher ready", "42 × open", "memory with 42 pending", "first copy", "nothing changed", "42 changes"} {
		if !strings.Contains(table, want) {
			t.Errorf("no row %q", want)
		}
	}
	for _, wrong := range []string{"failed", "not measured", "not known"} {
		if strings.Contains(table, wrong) {
			t.Errorf("a row is incomplete (%s)", wrong)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if t.Failed() {
		t.Log(table)
	}
}

func TestRow(t *testing.T) {
	fast := &series{name: "fast", readings: []reading{{seconds: 1}, {seconds: 4}, {seconds: 2}}}
	slow := &series{name: "slow", readings: []reading{{seconds: 10}, {seconds: 20}, {seconds: 40, remark: "full"}}}
	missing := &series{name: "missing", err: errMissing}
	broken := &series{name: "broken", readings: slow.readings[:1], err: os.ErrClosed}
	for _, c := range []struct {
		row  row
		want string
	}{
		{row{"a", fast, slow, seconds, limit{ratio: 0.1}}, "a fast 2.00 (1.00–4.00) slow 20.0 (10.0–40.0), full 0.100 ratio ≤ 0.1: met"},
		{row{"b", slow, fast, seconds, limit{value: 1, ratio: 30}}, "b slow 20.0 (10.0–40.0), full fast 2.00 (1.00–4.00) 10.0 value ≤ 1: missed, ratio ≤ 30: met"},
		{row{"c", fast, missing, seconds, limit{ratio: 1}}, "c fast 2.00 (1.00–4.00) missing not installed - ratio ≤ 1: not known"},
		{row{"d", broken, fast, seconds, limit{value: 1}}, "d broken failed fast 2.00 (1.00–4.00) - value ≤ 1: not known"},
	} {
		var out bytes.Buffer
		if err := printTable(&out, []row{c.row}); err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(out.String(), "\n")
		if got := strings.Join(strings.Fields(line), " "); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{9, 1, 5, 7}, 6},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

// What is chosen must be as many different files as asked for, sorted as rsync likes it, and others
// the next time.
func TestChoose(t *testing.T) {
	source, err := makeTree(t.Context(), t.TempDir()+"/source", 50)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 10, 71, 500} {
		first, second := source.choose(n), source.choose(n)
		if !slices.IsSorted(first) || len(slices.Compact(slices.Clone(first))) != n {
			t.Errorf("%d files chosen: %q", n, first)
		}
		if n < 500 && slices.Equal(first, second) {
			t.Errorf("the same %d files chosen twice", n)
		}
		for _, name := range first {
			if _, err := os.Stat(source.path + "/" + name); err != nil {
				t.Error(err)
			}
		}
	}
}
