package logs

import (
	"os/exec"
	"testing"
	"time"
)

// child starts a process that ends when its standard input is closed.
func child(t *testing.T) (who Owner, end func(), wait func()) {
	t.Helper()
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	who, err = Self()
	if err != nil {
		t.Fatal(err)
	}
	who.PID = cmd.Process.Pid
	if _, who.Start, err = stat(who.PID); err != nil {
		t.Fatal(err)
	}
	return who, func() { stdin.Close() }, func() { cmd.Wait() }
}

// deadOwner returns a process that is no more.
func deadOwner(t *testing.T) Owner {
	who, end, wait := child(t)
	end()
	wait()
	return who
}

func TestOwner(t *testing.T) {
	me, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	other, end, wait := child(t)
	later, elsewhere := me, me
	later.Start++
	elsewhere.Boot = "0"
	for _, test := range []struct {
		name string
		who  Owner
		dead bool
	}{
		{"this process", me, false},
		{"a child", other, false},
		{"a later process with its id", later, true},
		{"a process before a reboot", elsewhere, true},
		{"nobody", Owner{}, true},
	} {
		if why, err := test.who.Ended(); (why != "") != test.dead || err != nil {
			t.Errorf("%s: %q, %v; want dead = %v", test.name, why, err, test.dead)
		}
	}
	end()
	// It is a zombie now or soon, with its entry in /proc still there.
	waitFor(t, "the child to be found dead", func() bool { why, _ := other.Ended(); return why != "" })
	wait()
	if why, err := other.Ended(); why == "" || err != nil {
		t.Errorf("a child waited for: %q, %v; want it dead", why, err)
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestParseStat(t *testing.T) {
	const rest = " 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"
	for _, test := range []struct {
		text  string
		state byte
		start uint64
		ok    bool
	}{
		{"1 (init) S" + rest, 'S', 4711, true},
		{"7 (a) Z 3 (b)) Z" + rest, 'Z', 4711, true},
		{"7 (two\nlines) R" + rest, 'R', 4711, true},
		{"7 (init) S 1 2 3", 0, 0, false},
		{"", 0, 0, false},
	} {
		state, start, err := parseStat([]byte(test.text))
		if state != test.state || start != test.start || (err == nil) != test.ok {
			t.Errorf("%q: %c, %d, %v", test.text, state, start, err)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (init) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"))
	f.Fuzz(func(t *testing.T, text []byte) {
		state, _, err := parseStat(text)
		if err == nil && state == ' ' {
			t.Errorf("a blank is no state in %q", text)
		}
	})
}
