package rsync

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What has taken the place of a source that is held is not copied, and what is said of it is said by its path.
func TestHeldSource(t *testing.T) {
	e := newEngine(t)
	e.Source += " \\#012\n\"s\""
	write(t, e.Source, "d/f=1", "secret=1")
	write(t, e.Target, "d/f=old", "extra=1")
	asNobody(t, e)
	chown(t, e.Source, 65534)
	chown(t, e.Target, 65534)
	if err := os.Chmod(filepath.Join(e.Source, "secret"), 0); err != nil {
		t.Fatal(err)
	}
	holdSource(t, e)
	if err := os.Rename(e.Source, e.Source+".met"); err != nil {
		t.Fatal(err)
	}
	write(t, e.Source, "other=1")
	var log bytes.Buffer
	e.Log = &log

	expectFailed(t, "full", []string{"secret"})(e.Full(t.Context(), true))
	if target(t, e, "d/f") != "1" {
		t.Error("another source was copied")
	}
	if text := log.String(); strings.Contains(text, "/proc/") || !strings.Contains(text, quote([]string{"--", e.Source + "/", e.Target + "/"})) {
		t.Errorf("it does not speak of the paths:\n%s", text)
	}
}
