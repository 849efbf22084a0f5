package rsync

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rsince/sync/rsync/rsynctest"
)

// Every kind of pass over ssh and to a daemon, with names of every kind, and with paths that fail there.
func TestRemote(t *testing.T) {
	t.Parallel()
	needRoot(t)
	t.Run("ssh", func(t *testing.T) {
		e := newEngine(t)
		server := rsynctest.StartSSH(t)
		e.Options = []string{"--rsh=" + server.Shell}
		remotePasses(t, e, server.Host+":"+e.Target)
	})
	t.Run("ssh, relative to home", func(t *testing.T) {
		e := newEngine(t)
		server := rsynctest.StartSSH(t)
		e.Options = []string{"--rsh=" + server.Shell}
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(home, e.Target)
		if err != nil {
			t.Fatal(err)
		}
		remotePasses(t, e, server.Host+":"+rel)
	})
	t.Run("daemon", func(t *testing.T) {
		e := newEngine(t)
		write(t, e.Target, "below/")
		url := rsynctest.StartDaemon(t, e.Target)
		e.Target += "/below"
		remotePasses(t, e, url+"/below")
	})
	t.Run("daemon, chroot", func(t *testing.T) {
		e := newEngine(t)
		url := rsynctest.StartDaemon(t, e.Target, "use chroot = yes")
		remotePasses(t, e, url)
	})
}

// remotePasses copies to url, which is what e.Target is called from afar.
func remotePasses(t *testing.T, e *Engine, url string) {
	local := *e
	e.Target = url
	check := func(what string, res Result, err error) {
		t.Helper()
		if err != nil || len(res.Failed) > 0 || len(res.Vanished) > 0 {
			t.Errorf("%s: %+v, %v", what, res, err)
		}
	}
	write(t, e.Source, "a/f=1", "a/b/g=22", "odd/\nn=1", "odd/\xff\" -> \"x=1", "#c=1", "-rf=1", "gone/x=1", "gone\n/y=1", "links/1=1")
	err := errors.Join(os.Link(filepath.Join(e.Source, "links/1"), filepath.Join(e.Source, "links/2")), os.Symlink("a", filepath.Join(e.Source, "s")))
	if err != nil {
		t.Fatal(err)
	}
	res, err := e.Full(t.Context(), true)
	check("full", res, err)
	res, err = e.Links(t.Context(), [][]string{{"links/1", "links/2"}}, true)
	check("links", res, err)
	if d := differences(t, &local); d != "" {
		t.Errorf("after a full pass and the links:\n%s", d)
	}

	write(t, e.Source, "a/f=2", "odd/\nn=2", "odd/\xff\" -> \"x=2", "#c=2", "-rf=2", "a/b/g=33")
	write(t, local.Target, "a/extra=1", "a/b/extra=1")
	err = errors.Join(os.RemoveAll(filepath.Join(e.Source, "gone")), os.RemoveAll(filepath.Join(e.Source, "gone\n")))
	if err != nil {
		t.Fatal(err)
	}
	res, err = e.Paths(t.Context(), []string{"odd/\nn", "odd/\xff\" -> \"x", "#c", "-rf"}, true)
	check("paths", res, err)
	res, err = e.Directories(t.Context(), []string{"a"}, true)
	check("directories", res, err)
	res, err = e.Subtrees(t.Context(), []string{"a/b"})
	check("subtrees", res, err)
	res, err = e.Deletions(t.Context(), []string{"gone", "gone\n"})
	check("deletions", res, err)
	if d := differences(t, &local); d != "" {
		t.Errorf("after the passes:\n%s", d)
	}

	names := []string{"a/f", "odd/\nn", "odd/\xff\" -> \"x"}
	for _, name := range names {
		immutable(t, filepath.Join(local.Target, name))
	}
	res, err = e.Paths(t.Context(), append(names, "#c"), true)
	if got := failedPaths(res); err != nil || !slices.Equal(got, names) || res.Done != 1 {
		t.Errorf("failed %q, %v, done %d", got, err, res.Done)
	}
}

func TestRemoteIdentity(t *testing.T) {
	e := newEngine(t)
	server := rsynctest.StartSSH(t)
	e.Options = []string{"-e", server.Shell}
	dir := filepath.Join(filepath.Dir(e.Target), "it's a \"target\" $HOME")
	write(t, dir, "x=1")
	e.Target = server.Host + ":" + dir
	id, err := e.RemoteIdentity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stat, err := lstat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if id.Inode != stat.Ino {
		t.Errorf("inode %d, want %d", id.Inode, stat.Ino)
	}
	if out, err := exec.Command("stat", "-c", "%w", dir).Output(); err == nil && !strings.HasPrefix(string(out), "-") && id.Birth.IsZero() {
		t.Errorf("no time of birth; stat says %s", out)
	}
	if err := e.SyncRemote(t.Context()); err != nil {
		t.Error(err)
	}
	e.Target += "/absent"
	if _, err := e.RemoteIdentity(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := e.SyncRemote(t.Context()); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Error(err)
	}
	e.Target = "rsync://127.0.0.1/backup"
	if _, err := e.RemoteIdentity(t.Context()); !errors.Is(err, ErrUnknowable) {
		t.Error(err)
	}
}
