package logs

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain runs this program as one of the helpers that tests kill.
func TestMain(m *testing.M) {
	dir := os.Getenv("LOGS_TEST_DIR")
	switch os.Getenv("LOGS_TEST_HELPER") {
	case "runs":
		makeRuns(dir)
	case "lock":
		holdLock(dir)
	default:
		os.Exit(m.Run())
	}
}

func makeRuns(dir string) {
	l, err := Open(dir)
	for err == nil {
		var log *Log
		err = l.Settle()
		if err != nil {
			break
		}
		if log, err = l.Begin("home"); err != nil {
			break
		}
		fmt.Println("begun", log.Run().ID)
		log.Printf("hello")
		if err = log.End(Run{State: OK, Listed: 7}); err != nil {
			break
		}
		fmt.Println("ended", log.Run().ID)
		err = l.Expire("home", 1000)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func holdLock(dir string) {
	l, err := Open(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	unlock, err := l.lock()
	fmt.Println("locked", err)
	if err == nil {
		time.Sleep(time.Minute) // or until it is killed
		unlock()
	}
}

// startHelper returns a running helper and the lines it prints.
func startHelper(t *testing.T, what, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LOGS_TEST_HELPER="+what, "LOGS_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(stdout)
}

// TestKilled kills runs at random moments and expects every run that had begun in the list, once,
// and every one that had ended with its end.
func TestKilled(t *testing.T) {
	l := openList(t)
	begun, ended := make(map[string]bool), make(map[string]bool)
	for range 60 {
		cmd, lines := startHelper(t, "runs", l.dir)
		if !lines.Scan() {
			t.Fatal("the helper said nothing")
		}
		kill := time.AfterFunc(time.Duration(rand.IntN(int(15*time.Millisecond))), func() { cmd.Process.Kill() })
		for ok := true; ok; ok = lines.Scan() {
			what, id, _ := strings.Cut(lines.Text(), " ")
			begun[id] = true
			if what == "ended" {
				ended[id] = true
			}
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the helper ended by itself: %v", err)
		}
		kill.Stop()
	}
	if err := errors.Join(l.Settle(), l.Settle()); err != nil {
		t.Fatal(err)
	}
	checkKilled(t, l, begun, ended)
}

func checkKilled(t *testing.T, l *List, begun, ended map[string]bool) {
	t.Helper()
	runs, errs := collect(l, Filter{})
	if errs != nil {
		t.Error(errs)
	}
	unknown := 0
	seen := make(map[string]bool)
	for _, run := range runs {
		if seen[run.ID] {
			t.Errorf("%s is there twice", run.ID)
		}
		seen[run.ID] = true
		if run.State == Unknown && !ended[run.ID] {
			unknown++
		} else if run.State != OK || run.Listed != 7 {
			t.Errorf("%+v; want it ok", run)
		}
		if text := readLog(t, l, run.ID); !strings.Contains(text, "ended: "+string(run.State)) {
			t.Errorf("log of %s (%s): %q", run.ID, run.State, text)
		}
	}
	for id := range begun {
		if !seen[id] {
			t.Errorf("%s is lost", id)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(l.dir, "active", "*.json")); left != nil {
		t.Errorf("not settled: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(l.dir, "runs", "*", "*.log")); left != nil {
		t.Errorf("not compressed: %v", left)
	}
	t.Logf("%d runs begun, %d ended, %d of unknown end", len(begun), len(ended), unknown)
}

// TestStoppedAfterEachStep stops End after each of its steps, by doing only those, and within some.
func TestStoppedAfterEachStep(t *testing.T) {
	note := func(log *Log) error { return log.noteEnd() }
	last := func(log *Log) error { return log.close() }
	compress := func(log *Log) error { return log.list.compress(log.run.ID, "") }
	index := func(log *Log) error { return log.list.addToIndex(record{Run: log.run}) }
	half := func(log *Log) error {
		return os.WriteFile(log.list.logPath(log.run.ID)+".zst.tmp", []byte("half"), 0o600)
	}
	uncompress := func(log *Log) error { // renamed, the plain log not yet removed
		return os.WriteFile(log.list.logPath(log.run.ID), []byte("the log\n"), 0o600)
	}
	torn := func(log *Log) error {
		return os.WriteFile(log.list.indexPath(), []byte(`{"id":"20`), 0o600)
	}
	for _, test := range []struct {
		name  string
		steps []func(*Log) error
		want  State
	}{
		{"nothing", nil, Unknown},
		{"noted", []func(*Log) error{note}, Partial},
		{"only logged", []func(*Log) error{last}, Partial},
		{"logged", []func(*Log) error{note, last}, Partial},
		{"half compressed", []func(*Log) error{note, last, half}, Partial},
		{"both logs", []func(*Log) error{note, last, compress, uncompress}, Partial},
		{"compressed", []func(*Log) error{note, last, compress}, Partial},
		{"only logged, compressed", []func(*Log) error{last, compress}, Partial},
		{"torn in the index", []func(*Log) error{note, last, compress, torn}, Partial},
		{"indexed", []func(*Log) error{note, last, compress, index}, Partial},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := openList(t)
			log := beginDead(t, l)
			log.Write([]byte("the log\ntorn"))
			log.keep(Run{Ended: time.Now().UTC(), Message: "m"}, Partial)
			for _, step := range test.steps {
				if err := step(log); err != nil {
					t.Fatal(err)
				}
			}
			if got, errs := collect(l, Filter{}); len(got) != 1 || errs != nil {
				t.Errorf("before it is settled: %v, %v; want it once", got, errs)
			}
			if err := l.Settle(); err != nil {
				t.Fatal(err)
			}
			got, errs := collect(l, Filter{})
			if len(got) != 1 || errs != nil || got[0].State != test.want || got[0].Ended.IsZero() {
				t.Errorf("%+v, %v; want it %s, once", got, errs, test.want)
			}
			text := readLog(t, l, log.run.ID)
			if !strings.HasPrefix(text, "the log\n") || !strings.Contains(text, "ended: "+string(test.want)) || strings.Count(text, " ended: ") != 1 {
				t.Errorf("log: %q", text)
			}
			if left, _ := filepath.Glob(filepath.Join(l.dir, "*", "*.json")); left != nil {
				t.Errorf("still active: %v", left)
			}
		})
	}
}

// beginDead begins a run of a process that is no more.
func beginDead(t *testing.T, l *List) *Log {
	t.Helper()
	log, err := l.Begin("home")
	if err != nil {
		t.Fatal(err)
	}
	log.owner = deadOwner(t)
	if err := log.note(); err != nil {
		t.Fatal(err)
	}
	return log
}

func TestSettleLeavesTheLiving(t *testing.T) {
	l := openList(t)
	living, err := l.Begin("home")
	if err != nil {
		t.Fatal(err)
	}
	dead := beginDead(t, l)
	if err := l.Settle(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		log  *Log
		want State
	}{{living, Running}, {dead, Unknown}} {
		if run, err := l.Get(test.log.Run().ID); run.State != test.want || err != nil {
			t.Errorf("%+v, %v; want it %s", run, err, test.want)
		}
	}
	if text := readLog(t, l, dead.Run().ID); !strings.Contains(text, "ended without saying how") {
		t.Errorf("log of the dead run: %q", text)
	}
}

func TestSettleDamagedRecord(t *testing.T) {
	l := openList(t)
	log := beginDead(t, l)
	if err := os.WriteFile(l.activePath(log.run.ID), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, errs := collect(l, Filter{}); got != nil || len(errs) != 1 || !errors.Is(errs[0], ErrDamaged) {
		t.Errorf("%v, %v; want the damage", got, errs)
	}
	if err := l.Settle(); err != nil {
		t.Fatal(err)
	}
	run, err := l.Get(log.run.ID)
	if run.State != Unknown || run.Started.Unix() != log.run.Started.Unix() || err != nil {
		t.Errorf("%+v, %v; want what its name tells", run, err)
	}
}

func TestSettleSweepsUnbegun(t *testing.T) {
	l := openList(t)
	finish(t, l, "home", OK)
	old, young := filepath.Join(l.dir, "active", "old.tmp"), filepath.Join(l.dir, "active", "young.tmp")
	if err := errors.Join(os.WriteFile(old, nil, 0o600), os.WriteFile(young, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	before := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(old, before, before); err != nil {
		t.Fatal(err)
	}
	if err := l.Settle(); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(l.dir, "active", "*"))
	if !slices.Equal(left, []string{young}) {
		t.Errorf("left: %v; want only %s", left, young)
	}
}

func TestLockHolderHangs(t *testing.T) {
	l := openList(t)
	finish(t, l, "home", OK)
	cmd, lines := startHelper(t, "lock", l.dir)
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	if !lines.Scan() || lines.Text() != "locked <nil>" {
		t.Fatalf("the helper said %q", lines.Text())
	}
	l.patience = 50 * time.Millisecond
	log, err := l.Begin("home")
	if err != nil {
		t.Fatalf("beginning beside the holder: %v", err)
	}
	holder := fmt.Sprintf("process %d (", cmd.Process.Pid)
	if err := log.End(Run{State: OK}); err == nil || !strings.Contains(err.Error(), holder) {
		t.Errorf("ending beside the holder: %v; want it named: %s", err, holder)
	}
	if got, errs := collect(l, Filter{State: OK}); len(got) != 2 || errs != nil {
		t.Errorf("reading beside the holder: %v, %v; want two runs", got, errs)
	}
	cmd.Process.Kill()
	l.patience = 10 * time.Second
	if err := log.End(Run{State: OK}); err != nil {
		t.Errorf("ending after the holder: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(l.dir, "active", "*")); left != nil {
		t.Errorf("still active: %v", left)
	}
}
