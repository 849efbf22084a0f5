package lvm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"rsince/testscripts/disk"
	"rsince/testscripts/rig"
)

// inside runs the test in a machine with a volume group "vg" of 1 GB, and reports whether this is there.
func inside(t *testing.T, programs ...string) bool {
	t.Helper()
	m := rig.Machine{Modules: []string{"dm-snapshot", "dm-thin-pool", "ext4", "xfs", "btrfs"}}
	if !rig.InMachine() {
		if err := rig.Available(append([]string{"lvs", "thin_check"}, programs...)...); err != nil {
			t.Skip(err)
		}
		t.Parallel()
		m.Disks = []string{filepath.Join(t.TempDir(), "disk")}
		disk.Sparse(t, m.Disks[0], 1<<30)
	}
	if !rig.Inside(t, m, 3*time.Minute) {
		return false
	}
	sh(t, "vgcreate -q vg /dev/ubda")
	return true
}

func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-e", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// volume makes a volume of 320 MB, thin or not, with a file system mounted on /mnt/NAME.
func volume(t *testing.T, name, fsType string, thin bool) Volume {
	t.Helper()
	if thin {
		sh(t, "lvcreate -q -y --type thin-pool -L 400M -n pool-"+name+" vg; lvcreate -q -y -V 320M --thinpool pool-"+name+" -n "+name+" vg")
	} else {
		sh(t, "lvcreate -q -y -W y -L 320M -n "+name+" vg")
	}
	options := map[string]string{"ext4": " -E lazy_itable_init=0,lazy_journal_init=0"}[fsType] // else it goes on writing
	sh(t, "mkfs."+fsType+options+" -q /dev/vg/"+name+"; mkdir -p /mnt/"+name+"; mount /dev/vg/"+name+" /mnt/"+name)
	v, err := Below(t.Context(), mountOf(t, "/mnt/"+name))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mountOf(t *testing.T, point string) *mountinfo.Info {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(point))
	if err != nil || len(mounts) == 0 {
		t.Fatalf("%s is not mounted: %v", point, err)
	}
	return mounts[0]
}

func read(t *testing.T, f *Files, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/%s", f.Dir.Fd(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// clean fails the test unless LVM and the mount table have nothing but the origins.
func clean(t *testing.T) {
	t.Helper()
	taken, err := Taken(t.Context())
	if err != nil || len(taken) > 0 {
		t.Errorf("left: %v, %v", taken, err)
	}
	if mounts := sh(t, "cat /proc/mounts"); strings.Contains(mounts, "rsince") {
		t.Errorf("mounted: %s", mounts)
	}
}

// A snapshot has what was there when it was taken, and nothing of it is left.
func TestSnapshot(t *testing.T) {
	if !inside(t, "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "btrfstune") {
		return
	}
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		for _, thin := range []bool{false, true} {
			name := fsType
			if thin {
				name += "-thin"
			}
			t.Run(name, func(t *testing.T) {
				origin := volume(t, name, fsType, thin)
				defer sh(t, "umount /mnt/"+name+"; lvremove -q -f -y vg/"+name+" $(lvs vg/pool-"+name+" >/dev/null 2>&1 && echo vg/pool-"+name+")")
				if origin.Thin() != thin || origin.Name != name || origin.Size != 320<<20 {
					t.Errorf("found %+v", origin)
				}
				sh(t, "cd /mnt/"+name+"; mkdir -p a/b; echo before >a/b/f; sync -f .; echo and >>a/b/f; sync a/b/f; sync -f .")
				s, err := Take(t.Context(), origin, "20260102T030405Z-0a0b0c", 32<<20)
				if err != nil {
					t.Fatal(err)
				}
				sh(t, "cd /mnt/"+name+"; echo after >a/b/f; sync -f .")
				f, err := s.Open(t.Context(), fsType, "a")
				if err != nil {
					t.Fatal(err)
				}
				if got := read(t, f, "b/f"); got != "before\nand\n" {
					t.Errorf("the snapshot has %q", got)
				}
				if err := os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/new", f.Dir.Fd()), nil, 0o600); !errors.Is(err, unix.EROFS) {
					t.Errorf("writing into it: %v", err)
				}
				if err := s.Look(t.Context()); err != nil {
					t.Error(err)
				}
				if err := errors.Join(f.Close(), s.Remove(t.Context())); err != nil {
					t.Error(err)
				}
				if !errors.Is(s.Look(t.Context()), ErrGone) {
					t.Error("a snapshot that was removed can be looked at")
				}
				clean(t)
			})
		}
	}
}
