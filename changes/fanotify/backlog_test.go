package fanotify

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rsince/changes"
	"rsince/testscripts/disk"
)

// backlog is more events than several buffers hold.
const backlog = 8000

// A counter is a Recorder that counts what it is told, and calls back for each.
type counter struct {
	memory
	told int
	at   func(told int)
}

func (c *counter) Record(string, changes.Kind) {
	c.told++
	c.at(c.told)
}

// makeFiles makes files of one directory.
func makeFiles(t testing.TB, dir, prefix string) {
	t.Helper()
	for i := range backlog {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(prefix, i)), nil, 0o600); err != nil {
			t.Error(err)
			return
		}
	}
}

// await waits until a request is made.
func await(t testing.TB, g *Group) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); len(g.requests) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("no request was made")
			return
		}
	}
}

// TestCloseAmidBacklog closes while most of the queue has yet to be told.
func TestCloseAmidBacklog(t *testing.T) {
	for _, test := range []struct {
		name  string
		close func(*Group, changes.Watch) error
	}{
		{"watch", func(_ *Group, w changes.Watch) error { return w.Close() }},
		{"group", func(g *Group, _ changes.Watch) error { return g.Close() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := open(t)
			dir := disk.New(t, "tmpfs")
			begun, release := make(chan struct{}), make(chan struct{})
			rec := &counter{at: func(told int) {
				if told == 1 {
					close(begun)
					<-release
				}
			}}
			w, err := g.Watch(t.Context(), changes.Source{Path: dir, OneFileSystem: true}, rec)
			if err != nil {
				t.Fatal(err)
			}
			makeFiles(t, dir, "a")
			<-begun
			closed := make(chan error)
			go func() { closed <- test.close(g, w) }()
			await(t, g)
			close(release)
			if err := <-closed; err != nil {
				t.Error(err)
			}
			if rec.told >= backlog/2 {
				t.Errorf("%d of %d files were told before the end", rec.told, backlog)
			}
		})
	}
}

// TestDrainAmidBacklog drains while more goes into the queue than is read. It waits for what was
// there before, and for little more.
func TestDrainAmidBacklog(t *testing.T) {
	g := open(t)
	dir := disk.New(t, "tmpfs")
	begun, release := make(chan struct{}), make(chan struct{})
	drained := make(chan int, 1)
	rec := &counter{}
	rec.at = func(told int) {
		switch told {
		case 1:
			close(begun)
			<-release
		case backlog * 2 / 5:
			makeFiles(t, dir, "b")
		case backlog / 2:
			go g.do(t.Context(), func() error { // as Drain does
				drained <- rec.told
				return nil
			})
			await(t, g)
		case backlog * 7 / 8:
			makeFiles(t, dir, "c")
		}
	}
	if _, err := g.Watch(t.Context(), changes.Source{Path: dir, OneFileSystem: true}, rec); err != nil {
		t.Fatal(err)
	}
	makeFiles(t, dir, "a")
	<-begun
	close(release)
	if told := <-drained; told < 2*backlog || told > 5*backlog/2 {
		t.Errorf("drained when %d files were told, of %d made before and %d after", told, 2*backlog, backlog)
	}
}
