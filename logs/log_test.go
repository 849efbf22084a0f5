package logs

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRunFromBeginToEnd(t *testing.T) {
	l := openList(t)
	log, err := l.Begin("home")
	if err != nil {
		t.Fatal(err)
	}
	id := log.Run().ID
	log.Printf("mode %s", "full")
	log.Write([]byte("rsync says\nhalf a li"))
	if got := readLog(t, l, id); !strings.HasSuffix(got, " mode full\nrsync says\n") {
		t.Errorf("log of the run that goes on: %q", got)
	}
	if err := log.Update(Run{Mode: "full", Profile: "other", State: OK}); err != nil {
		t.Fatal(err)
	}
	if run, err := l.Get(id); run.State != Running || run.Mode != "full" || run.Profile != "home" || err != nil {
		t.Errorf("after Update: %+v, %v", run, err)
	}
	end := log.Run()
	end.State, end.Message, end.Bytes = Partial, "3 paths\nfailed", 42
	if err := errors.Join(log.End(end), log.End(end)); err != nil {
		t.Fatal(err)
	}

	runs, errs := collect(l, Filter{})
	if len(runs) != 1 || errs != nil {
		t.Fatalf("%v, %v; want one run", runs, errs)
	}
	if run := runs[0]; run.State != Partial || run.Message != "3 paths failed" || run.Bytes != 42 || run.Ended.Before(run.Started) {
		t.Errorf("record: %+v", run)
	}
	lines := strings.Split(readLog(t, l, id), "\n")
	if len(lines) != 5 || lines[2] != "half a li" || !strings.HasSuffix(lines[3], " run "+id+" ended: partial: 3 paths failed") {
		t.Errorf("log: %q", lines)
	}
	if _, err := log.Write([]byte("late")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("writing after the end: %v", err)
	}
	for _, path := range []string{l.activePath(id), l.logPath(id)} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
}

func TestEndRefusesStatesThatAreNone(t *testing.T) {
	l := openList(t)
	log, err := l.Begin("home")
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []State{"", Running, "fine"} {
		if err := log.End(Run{State: state}); err == nil {
			t.Errorf("ended as %q", state)
		}
	}
	if run, err := l.Get("latest"); run.State != Running || err != nil {
		t.Errorf("%+v, %v; want it running", run, err)
	}
}

func TestRunJSON(t *testing.T) {
	want := []string{
		"backend", "bytes", "created", "deleted", "ended", "engine", "errors", "id", "listed", "message", "mode",
		"moved", "pending_after", "profile", "reason", "snapshot", "started", "state", "updated",
	}
	for _, test := range []struct {
		run  Run
		want []string
	}{
		{Run{Started: time.Now(), Ended: time.Now()}, want},
		{Run{Started: time.Now(), State: Running}, slices.DeleteFunc(slices.Clone(want), func(s string) bool { return s == "ended" })},
	} {
		text, err := json.Marshal(test.run)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatal(err)
		}
		var got []string
		for name := range fields {
			got = append(got, name)
		}
		slices.Sort(got)
		if !slices.Equal(got, test.want) {
			t.Errorf("fields %v; want %v", got, test.want)
		}
	}
}

func TestParseEnd(t *testing.T) {
	const id = "20261121T025959Z-4f2a"
	at := time.Date(2026, 11, 21, 3, 0, 0, 123e6, time.UTC)
	for _, run := range []Run{
		{ID: id, State: OK, Ended: at},
		{ID: id, State: Failed, Ended: at, Message: "rsync: code 12: broken pipe"},
	} {
		line := strings.TrimSuffix(endLine(run), "\n")
		if got, ok := parseEnd(line, id); got != run || !ok {
			t.Errorf("parseEnd(%q) = %+v, %v; want %+v", line, got, ok, run)
		}
	}
	for _, line := range []string{
		"",
		"2026-11-21T03:00:00.123Z",
		"2026-11-21T03:00:00.123Z run 20261121T025959Z-4f2b ended: ok",
		"2026-11-21T03:00:00.123Z run " + id + " ended: running",
		"2026-11-21T03:00:00.123Z run " + id + " ended: ok-ish",
		"yesterday run " + id + " ended: ok",
		"run " + id + " ended: ok",
	} {
		if got, ok := parseEnd(line, id); ok {
			t.Errorf("parseEnd(%q) = %+v; want nothing", line, got)
		}
	}
}

func FuzzParseEnd(f *testing.F) {
	const id = "20261121T025959Z-4f2a"
	f.Add("2026-11-21T03:00:00.123Z run " + id + " ended: failed: x: y")
	f.Fuzz(func(t *testing.T, line string) {
		run, ok := parseEnd(line, id)
		if !ok {
			return
		}
		again, ok := parseEnd(strings.TrimSuffix(endLine(run), "\n"), id)
		// The stamp keeps milliseconds.
		run.Ended, again.Ended = run.Ended.Truncate(time.Millisecond), again.Ended.Truncate(time.Millisecond)
		if run != again || !ok {
			t.Errorf("%q read as %+v, again as %+v, %v", line, run, again, ok)
		}
	})
}

func TestTruncatedLog(t *testing.T) {
	l := openList(t)
	log, err := l.Begin("home")
	if err != nil {
		t.Fatal(err)
	}
	// Some blocks of zstd, 128 KiB each.
	var lines strings.Builder
	for range 16000 {
		lines.WriteString(rand.Text() + "\n")
	}
	text := lines.String()
	io.WriteString(log, text)
	if err := log.End(Run{State: OK}); err != nil {
		t.Fatal(err)
	}
	path := l.logPath(log.Run().ID) + ".zst"
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()/2); err != nil {
		t.Fatal(err)
	}
	r, err := l.OpenLog("latest")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error of a truncated log: %v; want one with its path", err)
	}
	if len(got) < len(text)/4 || !strings.HasPrefix(text, string(got)) {
		t.Errorf("%d of %d bytes could be read, or others", len(got), len(text))
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,mode=700"); err != nil {
		t.Skipf("mounting a small tmpfs: %v", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	log, err := l.Begin("home")
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if n, err := log.Write(make([]byte, 1000)); n != 1000 || err != nil {
			t.Fatalf("writing to a log on a full disk: %d, %v", n, err)
		}
	}
	err = log.End(Run{State: Partial, Listed: 7})
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("ending on a full disk: %v; want no space left", err)
	}
	if run, err := l.Get("latest"); run.State != Partial || run.Listed != 7 || err != nil {
		t.Errorf("the list says %+v, %v; want how it ended", run, err)
	}

	// The next one has not even room to begin.
	second, err := l.Begin("srv")
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("beginning on a full disk: %v; want no space left", err)
	}
	second.Printf("not to be seen")
	if err := os.Remove(l.logPath(log.Run().ID)); err != nil {
		t.Fatal(err)
	}
	second.Printf("to be seen")
	if err := second.End(Run{State: OK}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("ending with a hole in the log: %v; want what made it", err)
	}
	text := readLog(t, l, second.Run().ID)
	if strings.Contains(text, "not to be seen") || !strings.Contains(text, "to be seen") || !strings.Contains(text, "were lost: ") {
		t.Errorf("log: %q", text)
	}
	if err := log.End(Run{State: Partial, Listed: 7}); err != nil {
		t.Errorf("ending again with space: %v", err)
	}
	got, errs := collect(l, Filter{})
	if len(got) != 2 || errs != nil {
		t.Errorf("%+v, %v; want both runs", got, errs)
	}
	if left, _ := filepath.Glob(dir + "/*/*.tmp"); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func BenchmarkRun(b *testing.B) {
	l := openList(b)
	writeIndex(b, l, 10000)
	for b.Loop() {
		finish(b, l, "home", OK)
	}
}
