package writers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"rsince/changes"
	"rsince/testscripts/disk"
)

// TestHeld has a shell hold things in the directory src of a file system.
func TestHeld(t *testing.T) {
	for _, fsType := range []string{"ext4", "btrfs", "tmpfs"} {
		t.Run(fsType, func(t *testing.T) {
			dir := disk.New(t, fsType)
			shell(t, dir, `mkdir src out`)
			forgotten := "handle"
			if fsType == "tmpfs" {
				forgotten = "f" // it lives in the kernel's memory of names
			}
			for _, c := range []struct{ name, script, want string }{
				{"appending", `exec 3>>src/f`, "f"},
				{"reading and writing", `exec 3<>src/f`, "f"},
				{"reading", `echo x >src/f; exec 3<src/f`, ""},
				{"twice", `exec 3>>src/f 4>>src/f 5<src/f`, "f"},
				{"two", `mkdir src/d; exec 3>src/d/b 4>src/a`, "a\nd/b"},
				{"fifo", `mkfifo src/p; exec 3<>src/p`, ""},
				{"device", `mknod src/null c 1 3; exec 3>src/null`, ""},
				{"other file system", `exec 3>/dev/shm/rsince-test; rm /dev/shm/rsince-test`, ""},
				{"renamed", `exec 3>src/f; mkdir src/d; mv src/f src/d/g`, "d/g"},
				{"directory renamed", `mkdir src/d; exec 3>src/d/f; mv src/d src/e`, "e/f"},
				{"moved in", `exec 3>out/f; mv out/f src/f`, "f"},
				{"moved out", `exec 3>src/f; mv src/f out/f`, ""},
				{"removed", `exec 3>src/f; rm src/f`, ""},
				{"replaced", `exec 3>src/f; rm src/f; echo x >src/f`, ""},
				{"outside", `exec 3>out/f`, ""},
				{"linked", `exec 3>src/f; ln src/f src/g`, "f"},
				{"linked from outside", `exec 3>out/f; ln out/f src/f`, "f"},
				{"linked from outside, forgotten", `exec 3>out/f; ln out/f src/f; ` + forget, forgotten},
				{"linked outside only", `exec 3>out/f; ln out/f out/g`, "handle"},
				{"newline", `exec 3>$'src/a\nb\\012'`, "a\nb\\012"},
				{"not UTF-8", `exec 3>$'src/\xff'`, "\xff"},
				{"called deleted", `exec 3>'src/f (deleted)'`, "f (deleted)"},
				{"deep", `cd src; d=$(printf 'd%.0s' {1..250}); for i in {1..20}; do mkdir $d; cd $d; done; exec 3>f`, "handle"},
			} {
				t.Run(c.name, func(t *testing.T) {
					end := hold(t, dir, c.script)
					expect(t, find(t, dir+"/src"), c.want)
					end()
					shell(t, dir, `rm -rf src/* out/*`)
				})
			}
		})
	}
}

// forget has the kernel drop what it remembers of names on a file system but does not need.
const forget = `mount -o remount "$(findmnt -no TARGET -T .)"`

// TestHandle opens a file that is told by its handle.
func TestHandle(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			dir := disk.New(t, fsType)
			hold(t, dir, `mkdir src; exec 3>out; ln out src/f; `+forget)
			found := find(t, dir+"/src")
			expect(t, found, "handle")
			mount := openFile(t, dir, unix.O_RDONLY|unix.O_DIRECTORY)
			defer closeFile(t, mount)
			fd, err := found.Files[0].Handle.Open(mount)
			if err != nil {
				t.Fatal(err)
			}
			defer closeFile(t, fd)
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				t.Fatal(err)
			}
			if want := stat(t, dir+"/src/f"); st.Ino != want.Ino {
				t.Errorf("inode %d, want %d", st.Ino, want.Ino)
			}
		})
	}
}

// TestMapped has a process hold a mapping and no descriptor.
func TestMapped(t *testing.T) {
	for _, fsType := range []string{"ext4", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			dir := filepath.Join(disk.New(t, fsType), "src")
			shell(t, "/", `mkdir `+dir)
			for _, c := range []struct{ kind, file, script, want string }{
				{"shared", "f", "", "f"},
				{"shared, protected since", "f", "", "f"},
				{"shared, readonly", "f", "", ""},
				{"private", "f", "", ""},
				{"shared, renamed", "f", `mv f g`, "g"},
				{"shared, removed", "f", `rm f`, ""},
				{"shared, newline", "a\nb", "", "a\nb"},
			} {
				t.Run(c.kind, func(t *testing.T) {
					path := filepath.Join(dir, c.file)
					makeFile(t, path)
					end := child(t, nil, "map", path, c.kind)
					shell(t, dir, c.script)
					found := find(t, dir)
					expect(t, found, c.want)
					if c.want != "" && !found.Files[0].Mapped {
						t.Error("it is not said to be mapped")
					}
					end()
					shell(t, dir, `rm -f *`)
				})
			}
		})
	}
}

// TestTasks has unusual descriptors and processes.
func TestTasks(t *testing.T) {
	dir := disk.New(t, "ext4")
	path := filepath.Join(dir, "f")
	makeFile(t, path)
	for name, want := range map[string]string{"path": "", "thread": "f", "dead leader": "f"} {
		t.Run(name, func(t *testing.T) {
			if _, err := sameTable(os.Getpid(), os.Getpid()); err != nil && want != "" {
				t.Skip(err) // a kernel without CONFIG_KCMP
			}
			defer child(t, nil, name, path)()
			expect(t, find(t, dir), want)
		})
	}
}

// TestElsewhere has processes hold a file of the source under a name that is not meant here.
func TestElsewhere(t *testing.T) {
	namespace := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	rootless := &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}},
	}
	for _, fsType := range []string{"ext4", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			dir := disk.New(t, fsType)
			shell(t, dir, `mkdir -p src/d out root other; echo x >src/d/f; echo x >out/f`)
			for _, c := range []struct {
				name, want string
				start      func() (end func())
			}{
				{"chroot", "d/f", func() func() { return child(t, nil, "chroot", dir+"/src/d", "/f") }},
				{"container", "d/f", func() func() { return child(t, namespace, "contain", dir+"/root", dir+"/src/d") }},
				{"container outside", "", func() func() { return child(t, namespace, "contain", dir+"/root", dir+"/out") }},
				{"user namespace", "d/f", func() func() { return child(t, rootless, "contain", dir+"/root", dir+"/src/d") }},
				{"bind mount in a namespace", "d/f", func() func() {
					cmd := exec.Command("unshare", "--mount", "bash", "-euc", `mount --bind src/d other; exec 3>>other/f; echo ready; read || true`)
					cmd.Dir = dir
					return start(t, cmd)
				}},
				{"bind mount", "d/f", func() func() {
					shell(t, dir, `mount --bind src/d other`)
					end := hold(t, dir, `exec 3>>other/f`)
					return func() {
						end()
						shell(t, dir, `umount other`)
					}
				}},
				{"lazily unmounted", "d/f", func() func() {
					shell(t, dir, `mount --bind src/d other`)
					return hold(t, dir, `exec 3>>other/f; umount -l other`)
				}},
				{"bind mount in the source", "d/f", func() func() {
					shell(t, dir, `mkdir src/m; mount --bind src/d src/m`)
					end := hold(t, dir, `exec 3>>src/m/f`)
					return func() {
						end()
						shell(t, dir, `umount src/m; rmdir src/m`)
					}
				}},
				{"hidden by a mount", "handle", func() func() {
					end := hold(t, dir, `mkdir src/m; exec 3>src/m/f; mount -t tmpfs tmpfs src/m`)
					return func() {
						end()
						shell(t, dir, `umount src/m; rm -r src/m`)
					}
				}},
			} {
				t.Run(c.name, func(t *testing.T) {
					end := c.start()
					expect(t, find(t, dir+"/src"), c.want)
					end()
					expect(t, find(t, dir+"/src"), "")
				})
			}
		})
	}
}

// TestParts has a source of several mounts, and paths that are no part of it.
func TestParts(t *testing.T) {
	dir := disk.New(t, "ext4")
	shell(t, dir, `mkdir -p src/m src/bound src/skip out; mount -t tmpfs tmpfs src/m; mount --bind out src/bound`)
	hold(t, dir, `exec 3>src/f 4>src/m/f 5>out/f 6>src/skip/f`)
	source := changes.Source{Path: dir + "/src", Skip: []string{dir + "/src/skip"}}
	expect(t, findIn(t, source), "bound/f\nf\nm/f")
	source.OneFileSystem = true
	expect(t, findIn(t, source), "f")
	expect(t, findIn(t, sourceAt(dir+"/src/bound")), "f")
}

// TestSubvolumes has st_dev differ from the file system's device, and from file to file.
func TestSubvolumes(t *testing.T) {
	dir := disk.New(t, "btrfs")
	shell(t, dir, `btrfs -q subvolume create home; btrfs -q subvolume create home/nested; btrfs -q subvolume create root; mkdir point
		mount -o subvol=home "$(findmnt -no SOURCE .)" point; touch home/mapped home/nested/mapped root/mapped`)
	hold(t, dir, `exec 3>home/a 4>home/nested/b 5>root/c 6>point/d 7>point/nested/e`)
	for _, path := range []string{"home/mapped", "home/nested/mapped", "root/mapped"} {
		makeFile(t, filepath.Join(dir, path))
		child(t, nil, "map", filepath.Join(dir, path), "shared")
	}
	for _, source := range []string{"home", "point"} {
		expect(t, find(t, filepath.Join(dir, source)), "a\nd\nmapped\nnested/b\nnested/e\nnested/mapped")
	}
	expect(t, find(t, filepath.Join(dir, "home/nested")), "b\ne\nmapped")
}

// TestOverlay has a file changed through an overlay whose upper directory is in the source.
func TestOverlay(t *testing.T) {
	for name, w := range map[string]writer{
		"direct libaio": &aioWriter{flags: unix.O_DIRECT},
		"mapping":       &mapWriter{closed: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := disk.New(t, "ext4")
			shell(t, dir, makeOverlay+mountOverlay)
			makeFile(t, dir+"/low/d/f")
			events := listen(t, dir)
			w.begin(t, dir+"/merged/d/f")
			events.take(t)
			w.store(t)
			if told := events.take(t); told != 0 {
				t.Errorf("told of the store: %#x", told)
			}
			expect(t, find(t, dir+"/u p"), "d/f")
			expect(t, find(t, dir+"/low"), "")
			expect(t, find(t, dir+"/merged"), "d/f")
			w.end(t)
		})
	}
}

const (
	makeOverlay  = `mkdir -p low/d 'u p/d' work merged;`
	mountOverlay = `mount -t overlay overlay -o lowerdir=low,upperdir="$PWD/u p",workdir=work merged;`
)

// unshared runs a script in dir, in a mount namespace of its own, which is there until end is called.
func unshared(t *testing.T, dir, script string) (end func()) {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "bash", "-euc", script+`echo ready; read || true`)
	cmd.Dir = dir
	return start(t, cmd)
}

// TestOverlayElsewhere has the overlay in a namespace of its own, as containers have.
func TestOverlayElsewhere(t *testing.T) {
	dir := disk.New(t, "ext4")
	shell(t, dir, makeOverlay)
	const write = `exec 3>merged/d/f;`
	end := unshared(t, dir, mountOverlay+write)
	expect(t, find(t, dir+"/u p"), "d/f")
	end()
	unshared(t, dir, strings.Replace(mountOverlay, "$PWD/", "", 1)+write)
	found := findIn(t, sourceAt(dir+"/u p"))
	if unseen := strings.Join(found.Unseen, "\n"); len(found.Files) > 0 || !strings.Contains(unseen, `merged/d/f" in an overlay`) {
		t.Errorf("found %+v", found)
	}
}

// TestLayers has upper directories in the source, and the source in them.
func TestLayers(t *testing.T) {
	dir := disk.New(t, "ext4")
	shell(t, dir, makeOverlay)
	layers := func(source string, want ...string) {
		t.Helper()
		if found, err := Layers(sourceAt(source)); err != nil || !slices.Equal(found, want) {
			t.Errorf("in %s: %q, %v, want %q", source, found, err, want)
		}
	}
	layers(dir)
	shell(t, dir, mountOverlay)
	layers(dir, "u p")
	layers(dir+"/u p/d", ".")
	layers(dir + "/low")
	shell(t, dir, `umount merged`)
	end := unshared(t, dir, mountOverlay)
	layers(dir, "u p")
	end()
	layers(dir)
	unshared(t, dir, strings.Replace(mountOverlay, "$PWD/", "", 1))
	layers(dir+"/low", ".")
}

// TestLoop has loop devices hold files.
func TestLoop(t *testing.T) {
	for _, fsType := range []string{"ext4", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			dir := disk.New(t, fsType)
			path := filepath.Join(dir, "src/a\nb")
			shell(t, dir, `mkdir src other`)
			makeFile(t, path)
			attach(t, path, "--read-only")
			expect(t, find(t, dir+"/src"), "")
			device := attach(t, path)
			expect(t, find(t, dir+"/src"), "a\nb")
			shell(t, dir, `mv src/a* src/f`)
			expect(t, find(t, dir+"/src"), "f")
			shell(t, dir, `mount --bind src other`)
			run(t, "losetup", "--detach", device)
			device = attach(t, filepath.Join(dir, "other/f"))
			expect(t, find(t, dir+"/src"), "f")
			run(t, "losetup", "--detach", device)
			expect(t, find(t, dir+"/src"), "")
		})
	}
}

// TestLoopInNamespace has a device attached by a path that is meant elsewhere.
func TestLoopInNamespace(t *testing.T) {
	dir := disk.New(t, "ext4")
	shell(t, dir, `mkdir src other`)
	makeFile(t, dir+"/src/f")
	cmd := exec.Command("unshare", "--mount", "bash", "-euc", `mount --bind src other; losetup --find --show other/f >device; echo ready; read || true`)
	cmd.Dir = dir
	end := start(t, cmd)
	device, err := os.ReadFile(dir + "/device")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exec.Command("losetup", "--detach", strings.TrimSpace(string(device))).Run() })
	expect(t, find(t, dir+"/src"), "f")
	end()
	found, st := find(t, dir+"/src"), stat(t, dir+"/src/f")
	if len(found.Files) != 1 || found.Files[0].Kind != changes.Content || found.Files[0].Inode != st.Ino || found.Files[0].Device != st.Dev {
		t.Errorf("found %+v", found)
	}
	run(t, "losetup", "--detach", strings.TrimSpace(string(device)))
	expect(t, find(t, dir+"/src"), "")
}

// TestOrdinaryUser looks as nobody.
func TestOrdinaryUser(t *testing.T) {
	dir := disk.New(t, "ext4")
	makeFile(t, dir+"/mapped")
	shell(t, dir, `chmod 755 . .. ../..; mkdir src; mv mapped src; touch src/own src/other; chown -R nobody src`)
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	child(t, nobody, "map", dir+"/src/mapped", "shared")
	cmd := exec.Command("bash", "-euc", `exec 3>>own; echo ready; read || true`)
	cmd.Dir, cmd.SysProcAttr = dir+"/src", nobody
	start(t, cmd)
	hold(t, dir, `exec 3>>src/other`)

	found := findAs(t, nobody, "/proc/self/exe", dir+"/src")
	expect(t, found, "mapped\nown")
	if !slices.Contains(found.Unseen, "what other users' processes hold open: needs the capability CAP_SYS_PTRACE") {
		t.Errorf("unseen: %q", found.Unseen)
	}
}

// TestInside looks from inside a container.
func TestInside(t *testing.T) {
	dir := disk.New(t, "ext4")
	hold(t, dir, `exec 3>f`)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	found := findAs(t, nil, "unshare", "--pid", "--fork", "--mount-proc", exe, dir)
	expect(t, found, "")
	if !slices.Contains(found.Unseen, "what processes outside this PID namespace hold open: they are not visible from inside") {
		t.Errorf("unseen: %q", found.Unseen)
	}
}

// findAs has another process look; the command runs this program with the source as its argument.
func findAs(t testing.TB, attr *syscall.SysProcAttr, name string, args ...string) (found Found) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), childName+"=find")
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&found); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestFrozen has a process that cannot be looked at: a thread of it waits for a page of a frozen
// file system, another one to unmap it.
func TestFrozen(t *testing.T) {
	dir, frozen := disk.New(t, "ext4"), disk.New(t, "ext4")
	makeFile(t, frozen+"/f")
	hold(t, dir, `exec 3>f`)
	run(t, "fsfreeze", "--freeze", frozen)
	defer run(t, "fsfreeze", "--unfreeze", frozen)
	child(t, nil, "stuck", frozen+"/f")
	until(t, func() bool {
		threads, _ := filepath.Glob("/proc/[0-9]*/task/*/stat")
		return len(slices.DeleteFunc(threads, func(path string) bool { return !waits(path) })) >= 2
	})
	found := findIn(t, sourceAt(dir))
	expect(t, found, "f")
	if unseen := strings.Join(found.Unseen, "\n"); !strings.Contains(unseen, "no answer") {
		t.Errorf("unseen: %s", unseen)
	}
}

// TestChurn looks while processes come and go.
func TestChurn(t *testing.T) {
	dir := disk.New(t, "ext4")
	hold(t, dir, `exec 3>f`)
	hold(t, dir, `while [ ! -e stop ]; do (exec 4>g) & (:) & wait; done &`)
	defer shell(t, dir, `touch stop`)
	for range 20 {
		found := find(t, dir).Files
		if len(found) == 0 || found[0].Path != "f" {
			t.Fatalf("found %+v", found)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, changes.Source{Path: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNoSource(t *testing.T) {
	if _, err := Find(t.Context(), changes.Source{Path: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
