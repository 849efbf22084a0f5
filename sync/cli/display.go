package cli

import (
	"fmt"
	"io"
	"sync"

	"github.com/dustin/go-humanize"

	"rsince/sync/rsync"
)

// display shows how far a run is, in one line of a terminal that is written over and over.
type display struct {
	out   io.Writer // nil: there is no terminal
	name  string
	mu    sync.Mutex
	shown bool
}

func newDisplay(out io.Writer, name string, wanted bool) *display {
	d := &display{name: name}
	if wanted && isTerminal(out) {
		d.out = out
	}
	return d
}

// progress draws the line anew. How many entries were listed is shown as long as it can be the total: one
// may stand for a whole tree.
func (d *display) progress(p rsync.Progress, listed int) {
	if d.out == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shown = true
	done := humanize.Comma(p.Paths) + " paths"
	switch {
	case p.Percent >= 0:
		done = fmt.Sprintf("%d %%, %s", p.Percent, done)
	case p.Paths <= int64(listed):
		done = fmt.Sprintf("%s of %s paths", humanize.Comma(p.Paths), humanize.Comma(int64(listed)))
	}
	fmt.Fprintf(d.out, "\r%s: %s, %s, %s/s\x1b[K", printable(d.name), done, humanize.IBytes(uint64(p.Bytes)), humanize.IBytes(uint64(p.Rate)))
}

// clear takes the line away, so that something else can be printed.
func (d *display) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shown {
		fmt.Fprint(d.out, "\r\x1b[K")
		d.shown = false
	}
}
