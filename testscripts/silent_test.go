package testscripts

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSilentWriters writes where no watcher hears of it, and goes on holding what it has written to.
func TestSilentWriters(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("looking at what others hold open needs root")
	}
	t.Parallel()
	s := newSite(t, 0)
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "fanotify"`)
	s.must(os.WriteFile(s.dir+"/src/mapped", make([]byte, 4096), 0o644))
	for _, disk := range []string{"disk", "renamed"} {
		s.must(os.WriteFile(s.dir+"/src/"+disk, make([]byte, 1<<20), 0o644))
	}
	s.startWatcher("p")
	completed := func() {
		t.Helper()
		if trouble := s.complete("p", s.dir+"/dst"); trouble != "" {
			t.Error(trouble)
		}
	}
	completed()

	mem := mapShared(t, s.dir+"/src/mapped")
	devices := []string{loopDevice(t, s.dir+"/src/disk"), loopDevice(t, s.dir+"/src/renamed")}
	s.must(os.Link(s.dir+"/src/renamed", s.dir+"/src/another name"))
	s.must(os.Remove(s.dir + "/src/renamed"))
	for i := range 3 {
		copy(mem, strings.Repeat(string(rune('a'+i)), 10))
		for _, device := range devices {
			direct(t, device, byte('a'+i))
		}
		if r := s.sync(nil, "p"); r.State != "ok" {
			t.Errorf("%+v", r)
		}
		s.equal("p", s.dir+"/dst")
	}
	copy(mem, "the last word")
	s.must(unix.Munmap(mem))
	completed()
	s.must(os.WriteFile(s.dir+"/src/mapped", []byte("x"), 0o644))
	completed()
	time.Sleep(settles)
	if r := s.sync(nil, "p"); r.Listed != len(devices) { // which changed less than ten minutes ago
		t.Errorf("after all is copied: %+v", r)
	}
}

// mapShared shows a file in memory and closes it.
func mapShared(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	return mem
}

func loopDevice(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", path).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", device).Run() })
	return device
}

// direct writes to the device and returns when the file behind it has that.
func direct(t *testing.T, device string, b byte) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{b, b, b}, 8192); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}
