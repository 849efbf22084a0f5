package inotify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

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
		t.Run("shared", testLimitShared)
		t.Run("cookies", testLimitOfCookies)
		t.Run("source", testLimitOfSource)
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
	for limit := range 3 {
		do(t, os.WriteFile("/proc/sys/user/max_inotify_instances", fmt.Append(nil, limit), 0))
		var held []changes.Watch
		var err error
		for err == nil {
			var w changes.Watch
			backend := &Backend{Cookies: tempDir(t)}
			if w, err = backend.Watch(t.Context(), changes.Source{Path: tempDir(t)}, new(memory)); err == nil {
				held = append(held, w)
			}
		}
		for _, w := range held {
			do(t, w.Close())
		}
		var refused *LimitError
		if !errors.As(err, &refused) || refused.Sysctl != "user.max_inotify_instances" || refused.Limit != limit || refused.Set < 128 {
			t.Errorf("with %d instances: %v", limit, err)
		}
		if len(held) != limit {
			t.Errorf("%d of %d instances", len(held), limit)
		}
	}
}

func testLimitAtStart(t *testing.T) {
	dir := tempDir(t)
	for i := range 100 {
		mkdir(t, dir, fmt.Sprint("d", i), "below")
	}
	for _, watches := range []int{0, 1, 50} { // the cookies need the first
		t.Run(fmt.Sprint(watches), func(t *testing.T) {
			setLimit(t, watches)
			_, err := (&Backend{Cookies: tempDir(t)}).Watch(t.Context(), changes.Source{Path: dir}, new(memory))
			var limit *LimitError
			if !errors.As(err, &limit) || errors.Is(err, unix.ENOSPC) {
				t.Fatalf("watched 201 directories: %v", err)
			}
			if limit.Sysctl != "user.max_inotify_watches" || limit.Limit != watches || limit.Needed != 202 || limit.Set <= 202 {
				t.Errorf("%+v", limit)
			}
			if !strings.Contains(err.Error(), fmt.Sprint("sysctl -w user.max_inotify_watches=", limit.Set)) {
				t.Error(err)
			}
			setLimit(t, limit.Set)
			probe(t, dir, begin(t, changes.Source{Path: dir}))
		})
	}
}

// What others use counts too.
func testLimitShared(t *testing.T) {
	setLimit(t, 50)
	_, err := useUp(t, 40)
	do(t, err)
	dir := tempDir(t)
	for i := range 20 {
		mkdir(t, dir, fmt.Sprint("d", i))
	}
	_, err = (&Backend{Cookies: tempDir(t)}).Watch(t.Context(), changes.Source{Path: dir}, new(memory))
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Others != 40 || limit.Needed != 22 || limit.Set <= 62 {
		t.Errorf("%v", err)
	}
}

func testLimitOfCookies(t *testing.T) {
	setLimit(t, 10)
	w, _ := start(t, changes.Source{Path: tempDir(t)})
	do(t, os.RemoveAll(w.cookies.dir))
	release, err := useUp(t, 10)
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("there are watches left: %v", err)
	}
	var limit *LimitError
	if err := w.Drain(t.Context()); !errors.As(err, &limit) || errors.Is(err, unix.ENOSPC) || limit.Needed != 2 {
		t.Errorf("drained without a watch: %v", err)
	}
	release()
	drainNow(t, w)
}

func testLimitOfSource(t *testing.T) {
	setLimit(t, 10)
	dir := mkdir(t, tempDir(t), "source")
	w, rec := start(t, changes.Source{Path: dir})
	do(t, os.Remove(dir))
	drainNow(t, w)
	release, _ := useUp(t, 10)
	mkdir(t, dir, "d")
	for _, told := range []bool{false, true} {
		rec.take()
		drainNow(t, w)
		gaps := rec.take().gaps
		if len(gaps) != 1 || gaps[0].Subtree != "." || gaps[0].Told != told || !strings.Contains(gaps[0].Reason, "needs 3 watches") {
			t.Errorf("gaps: %+v", gaps)
		}
	}
	release()
	drainNow(t, w)
	probe(t, dir, drainer(t, w, rec))
}

// useUp takes so many watches, or as many as there are.
func useUp(t *testing.T, watches int) (release func(), err error) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	do(t, err)
	release = sync.OnceFunc(func() { unix.Close(fd) })
	t.Cleanup(release)
	for range watches {
		if _, err := unix.InotifyAddWatch(fd, t.TempDir(), unix.IN_CREATE); err != nil {
			return release, err
		}
	}
	return release, nil
}

func testLimitWhileWatching(t *testing.T) {
	setLimit(t, 50)
	dir := tempDir(t)
	mkdir(t, dir, "old")
	drain := begin(t, changes.Source{Path: dir})
	made := 0
	grow := func(by int) {
		t.Helper()
		for range by {
			mkdir(t, dir, fmt.Sprintf("d%03d", made), "below")
			made++
		}
	}
	// look drains and returns the gaps that a person is to be told of.
	look := func() (news []changes.Gap) {
		t.Helper()
		got := drain()
		for i := range made {
			if path := fmt.Sprintf("d%03d/below/f", i); !got.covers(path) {
				t.Errorf("%s was lost", path)
			}
		}
		for _, gap := range got.gaps {
			if !gap.Told {
				news = append(news, gap)
			}
		}
		return news
	}
	write := func() {
		t.Helper()
		for i := range made {
			write(t, "x", dir, fmt.Sprintf("d%03d", i), "below", "f")
		}
	}

	grow(60) // 47 watches are left, at best for 23 of them
	news := look()
	if len(news) != 1 || news[0].Others < 10 || news[0].Others > 59 {
		t.Fatalf("told of %v", news)
	}
	limit := fmt.Sprintf("needs %d watches, and user.max_inotify_watches is 50: ", 3+2*made)
	if !strings.Contains(news[0].Reason, limit) {
		t.Errorf("%s: want %s", news[0].Reason, limit)
	}
	for range 2 {
		write()
		grow(1)
		if news := look(); news != nil {
			t.Errorf("told again: %v", news)
		}
	}

	grow(100)
	news = look()
	limit = fmt.Sprintf("needs %d watches, and user.max_inotify_watches is 50: ", 3+2*made)
	if len(news) != 1 || news[0].Subtree != "." || !strings.Contains(news[0].Reason, limit) {
		t.Errorf("much worse, told of %v: want %s", news, limit)
	}
	write()
	if news := look(); news != nil {
		t.Errorf("told again: %v", news)
	}

	setLimit(t, 3+2*made)
	if got := drain(); got.gaps != nil || !got.covers("d161") {
		t.Errorf("gaps: %v", got.gaps)
	}
	probe(t, dir, drain)
	mkdir(t, dir, "one more")
	news = drain().gaps
	if len(news) != 1 || news[0].Told || news[0].Subtree != "one more" {
		t.Errorf("short again after it was well, told of %v", news)
	}
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
