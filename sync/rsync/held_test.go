package rsync

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What has taken the place of a source that is held is not copied, whatever rsync is wrapped in, and what is said of it is
// said by its path, which is not looked for in names.
func TestHeldSource(t *testing.T) {
	e := newEngine(t)
	e.Source += " \\#012\n\"s\""
	write(t, e.Source, "d/f=1", "secret=1")
	write(t, e.Target, "d/f=old", "extra=1")
	const unreadable = "/proc/sys/net/ipv4/route/flush" // also for root
	if err := unix.Mount(unreadable, filepath.Join(e.Source, "secret"), "", unix.MS_BIND, ""); err != nil {
		t.Skip(err)
	}
	e.Program = filepath.Join(t.TempDir(), "rsync")
	wrapper := "#!/bin/bash\nfor fd in {3..250}; do eval \"exec $fd</\"; done\nexec rsync \"$@\"\n"
	if err := os.WriteFile(e.Program, []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
	holdSource(t, e)
	if err := os.Rename(e.Source, e.Source+".met"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(e.Source+".met", "secret"), unix.MNT_DETACH) })
	write(t, e.Source, "other=1")
	extra := "x\"" + e.Held + "/y"
	write(t, e.Target, extra+"=1")
	var log bytes.Buffer
	e.Log = &log
	deleted := map[string]bool{}
	e.Items = func(item Item) { deleted[item.Path] = item.Action == Delete }

	expectFailed(t, "full", []string{"secret"})(e.Full(t.Context(), true))
	if target(t, e, "d/f") != "1" {
		t.Error("another source was copied")
	}
	if !deleted[extra] {
		t.Errorf("%q is not said to be deleted: %v", extra, deleted)
	}
	if text := strings.ReplaceAll(log.String(), strings.TrimSuffix(extra, "/y"), ""); strings.Contains(text, e.Held) || !strings.Contains(text, quote([]string{"--", e.Source + "/", e.Target + "/"})) {
		t.Errorf("it does not speak of the paths:\n%s", text)
	}
}
