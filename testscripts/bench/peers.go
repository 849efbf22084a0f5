package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// inotifywait hears of what a copy must hear of, and not of mere reading, which would slow down the
// writer for nothing.
func inotifywait(source string) watcher {
	return watcher{
		name: "inotifywait",
		args: []string{"inotifywait", "-m", "-r", "-e", "modify,attrib,close_write,move,create,delete", source},
		// It says so when the last directory has its watch.
		ready:  "Watches established.",
		events: true,
	}
}

// lsyncdConfig is lsyncd at its defaults, but for an action that copies nothing: only its watching
// is measured. It calls init when every directory has its watch.
const lsyncdConfig = `settings { nodaemon = true }
sync {
	source = %q,
	init = function(event)
		log("Normal", "the watches are there")
		event.inlet.discardEvent(event)
	end,
	action = function(inlet)
		inlet.discardEvent(inlet.getEvent())
	end,
}
`

// lsyncd writes its configuration to dir.
func lsyncd(dir, source string) (watcher, error) {
	config := filepath.Join(dir, "lsyncd.lua")
	if err := os.WriteFile(config, fmt.Appendf(nil, lsyncdConfig, source), 0o644); err != nil {
		return watcher{}, err
	}
	return watcher{
		name:     "lsyncd",
		args:     []string{"lsyncd", "-nodaemon", config},
		ready:    "the watches are there",
		overflow: "OVERFLOW",
	}, nil
}

// A mirror is what rsync, called by hand, keeps of the tree. Each of its runs ends with sync -f,
// since a run of rsince is durable when it ends.
type mirror struct {
	source, target string
}

// copy runs rsync with what it needs to keep everything, and this option.
func (m mirror) copy(ctx context.Context, option string) (reading, error) {
	args := []string{"rsync", "-aHAX", option, m.source + "/", m.target + "/"}
	took, _, err := timed(ctx, args, []string{"sync", "-f", m.target})
	return reading{seconds: took}, err
}

// compare fails if target is not equal to source, all contents compared.
func compare(ctx context.Context, source, target string) error {
	differences, err := output(ctx, "rsync", "-aHAXni", "--delete", "--checksum", source+"/", target+"/")
	if err == nil && len(differences) > 0 {
		err = fmt.Errorf("source and target differ:\n%s", differences[:min(len(differences), maxSaid)])
	}
	return err
}
