package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// profileName is that of the one profile.
const profileName = "bench"

// rsince is the program with a profile for the tree and a state directory of its own.
type rsince struct {
	program, config, state string
	backend                string
	mode                   string // that its runs are to have
}

// profileText leaves out the low priority that a profile has by default: its peers run without.
const profileText = `source = %q
target = %q
[watch]
backend = %q
[priority]
nice = 0
io = "none"
`

// newRsince writes a profile below dir.
func newRsince(program, dir, source, target, backend string) (*rsince, error) {
	r := &rsince{program: program, config: filepath.Join(dir, "config"), state: filepath.Join(dir, "state"), backend: backend, mode: "changes"}
	if err := os.MkdirAll(r.config, 0o755); err != nil {
		return nil, err
	}
	text := fmt.Appendf(nil, profileText, source, target, backend)
	return r, os.WriteFile(filepath.Join(r.config, profileName+".toml"), text, 0o644)
}

func (r *rsince) args(command string, args ...string) []string {
	return append([]string{r.program, command, "--config", r.config, "--state-dir", r.state}, args...)
}

func (r *rsince) watcher() watcher {
	return watcher{
		name:  "rsince " + r.backend,
		args:  r.args("watch"),
		ready: "watching " + profileName,
	}
}

// forget removes the journal and all else that earlier runs left.
func (r *rsince) forget() error { return os.RemoveAll(r.state) }

// listed counts the changes that are not yet copied.
func (r *rsince) listed(ctx context.Context) (int, error) {
	out, err := output(ctx, r.args("changes", "-0", profileName)...)
	return bytes.Count(out, []byte{0}), err
}

// sync makes a run, which must bring over this many files and have missed none. A mode other than
// that of its runs is remarked.
func (r *rsince) sync(ctx context.Context, files int, options ...string) (reading, error) {
	took, out, err := timed(ctx, r.args("sync", append(options, "--json", profileName)...))
	if err != nil {
		return reading{}, err
	}
	var run struct {
		State, Mode      string
		Created, Updated int
	}
	if err := json.Unmarshal(out, &run); err != nil {
		return reading{}, fmt.Errorf("reading the record %s: %w", out, err)
	}
	missed := run.Mode == "gap" && run.Mode != r.mode
	if run.State != "ok" || missed || run.Created+run.Updated < files {
		return reading{}, fmt.Errorf("%d files were changed, but the run's record says %s", files, bytes.TrimSpace(out))
	}
	if run.Mode == r.mode {
		run.Mode = ""
	}
	return reading{seconds: took, remark: run.Mode}, nil
}
