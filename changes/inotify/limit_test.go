package inotify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rsince/changes"
)

// again runs one or more tests of this binary in another process and hands on what it said.
func again(t *testing.T, tests string, attr *syscall.SysProcAttr, env ...string) {
	t.Helper()
	// Not by its own name: the directories above it may be closed to another user.
	cmd := exec.Command("/proc/self/exe", "-test.run=^("+tests+")$", "-test.v")
	cmd.Dir = t.TempDir()
	for dir := cmd.Dir; strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		do(t, os.Chmod(dir, 0o755))
	}
	if attr.Credential != nil {
		do(t, os.Chown(cmd.Dir, int(attr.Credential.Uid), int(attr.Credential.Gid)))
	}
	cmd.Env = append(os.Environ(), "TMPDIR="+cmd.Dir)
	cmd.Env = append(cmd.Env, env...)
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for test := range strings.SplitSeq(tests, "|") {
		if !strings.Contains(string(out), "--- PASS: "+test+" ") {
			t.Errorf("%s did not run:\n%s", test, out)
		}
	}
}

func TestAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("becoming nobody needs root; all other tests run as an ordinary user anyway")
	}
	again(t, "TestOperations|TestSkip|TestCookies|TestMadeWhileTheSourceWasAway", &syscall.SysProcAttr{Credential: nobody})
}

var nobody = &syscall.Credential{Uid: 65534, Gid: 65534}

const limitEnv = "RSINCE_TEST_WATCH_LIMIT"

// TestWatchLimit runs in a user namespace of its own, which has its own limit.
func TestWatchLimit(t *testing.T) {
	if os.Getenv(limitEnv) != "" {
		t.Run("at the start", testLimitAtStart)
		t.Run("while watching", testLimitWhileWatching)
		t.Run("instances", testInstances)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("setting a limit of a user namespace needs root")
	}
	again(t, "TestWatchLimit", &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: 0, Size: 1}},
	}, limitEnv+"=1")
}

func setLimit(t *testing.T, watches int) {
	t.Helper()
	do(t, os.WriteFile("/proc/sys/user/max_inotify_watches", fmt.Append(nil, watches), 0))
}

func testInstances(t *testing.T) {
	do(t, os.WriteFile("/proc/sys/user/max_inotify_instances", []byte("1"), 0))
	backend := &Backend{Cookies: tempDir(t)}
	first, err := backend.Watch(t.Context(), changes.Source{Path: tempDir(t)}, new(memory))
	do(t, err)
	defer func() { do(t, first.Close()) }()
	_, err = backend.Watch(t.Context(), changes.Source{Path: tempDir(t)}, new(memory))
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Sysctl != "user.max_inotify_instances" || limit.Limit != 1 || limit.Set < 2 {
		t.Errorf("a second instance: %v", err)
	}
}

func testLimitAtStart(t *testing.T) {
	setLimit(t, 50)
	dir := tempDir(t)
	for i := range 100 {
		mkdir(t, dir, fmt.Sprint("d", i), "below")
	}
	backend := &Backend{Cookies: tempDir(t)}
	_, err := backend.Watch(t.Context(), changes.Source{Path: dir}, new(memory))
	var limit *LimitError
	if !errors.As(err, &limit) {
		t.Fatalf("watched 201 directories with 50 watches: %v", err)
	}
	if limit.Sysctl != "user.max_inotify_watches" || limit.Limit != 50 || limit.Needed != 202 || limit.Set < 202 {
		t.Errorf("%+v", limit)
	}
	if !strings.Contains(err.Error(), fmt.Sprint("sysctl -w user.max_inotify_watches=", limit.Set)) {
		t.Error(err)
	}
	setLimit(t, limit.Set)
	probe(t, dir, begin(t, changes.Source{Path: dir}))
}

func testLimitWhileWatching(t *testing.T) {
	setLimit(t, 50)
	dir := tempDir(t)
	mkdir(t, dir, "old")
	drain := begin(t, changes.Source{Path: dir})
	for i := range 60 {
		mkdir(t, dir, fmt.Sprintf("d%02d", i), "below")
	}
	got := drain()
	for i := range 60 {
		if path := fmt.Sprintf("d%02d/below", i); !got.covers(path) {
			t.Errorf("%s was lost", path)
		}
	}
	for range 2 {
		for i := range 60 {
			write(t, "x", dir, fmt.Sprintf("d%02d", i), "below", "f")
		}
		got = drain()
		if len(got.gaps) == 0 || !strings.Contains(got.gaps[0].Reason, "user.max_inotify_watches is 50") {
			t.Errorf("gaps: %v", got.gaps)
		}
		for i := range 60 {
			if path := fmt.Sprintf("d%02d/below/f", i); !got.covers(path) {
				t.Errorf("%s was lost", path)
			}
		}
	}
	setLimit(t, 500)
	if got := drain(); got.gaps != nil || !got.covers("d59") {
		t.Errorf("gaps: %v", got.gaps)
	}
	probe(t, dir, drain)
}

// TestOverflow holds up the Recorder until the queues behind it are full.
func TestOverflow(t *testing.T) {
	queue, err := sysctl("fs.inotify.max_queued_events")
	do(t, err)
	dir := tempDir(t)
	mkdir(t, dir, "old")
	w, rec := start(t, changes.Source{Path: dir})
	release := rec.hold()
	write(t, "x", dir, "first")
	a, b := write(t, "x", dir, "a"), write(t, "x", dir, "b")
	for range buffered/2 + queue {
		do(t, os.Chmod(a, 0o600), os.Chmod(b, 0o600)) // taken in turn, they are not merged
	}
	mkdir(t, dir, "unheard of/below")
	do(t, os.RemoveAll(filepath.Join(dir, "old")))
	answer := make(chan error)
	go func() { answer <- w.Drain(context.WithoutCancel(t.Context())) }()
	release()
	do(t, <-answer)
	got := rec.take()
	if len(got.gaps) == 0 || got.gaps[0].Subtree != "." || !strings.Contains(got.gaps[0].Reason, "fs.inotify.max_queued_events") {
		t.Fatalf("gaps: %v", got.gaps)
	}
	probe(t, dir, drainer(t, w, rec))
	sameDirectories(t, dir, w)
}
