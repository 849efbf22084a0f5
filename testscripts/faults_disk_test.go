package testscripts

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A target that ext4 makes read-only in the middle of a run, because of an error.
func TestReadOnlyTarget(t *testing.T) {
	s := faulty(t, "fanotify", map[string]string{"dst": "ext4"})
	s.changes()
	s.beforeCopying("echo 1 >/sys/fs/ext4/$(basename $(findmnt -no SOURCE dst))/trigger_fs_error")
	s.says(1, `rsince: p: the target is read-only`, "p")
	s.untouchedTarget()
	s.says(1, `(?s)rsince: p: the target is read-only.*hint: it takes .* a target mounted to be written to`, "p")
	s.untouchedTarget()
	s.again("dst")
	s.heals("changes")
}

// A full run on a target that has no room to be asked what it keeps: that it keeps less is not concluded.
func TestFullRunOnFullTarget(t *testing.T) {
	s := faulty(t, "fanotify", map[string]string{"dst": "tmpfs"})
	s.shell(s.dir, "mount -o remount,nr_inodes=$(($(stat -fc %c dst) - $(stat -fc %d dst) + 10)) dst")
	if r := s.says(0, "", "--full", "p"); r.Mode != "full" {
		t.Errorf("%+v", r)
	}
	s.shell(s.dir, "mount -o remount,nr_inodes=500 dst; setfattr -n user.a -v b src/kept")
	s.heals("changes")
}

// A source that becomes read-only because of an error is copied like any other.
func TestReadOnlySource(t *testing.T) {
	s := faulty(t, "fanotify", map[string]string{"src": "ext4"})
	s.changes()
	s.shell(s.dir, "sync -f src")
	s.errorIn("src")
	s.heals("changes")
}

// A target that is unmounted by force in the middle of a run: nothing is written where it was, and nothing
// is acknowledged.
func TestTargetUnmounted(t *testing.T) {
	s := faulty(t, "inotify", map[string]string{"dst": "ext4"})
	s.option("p", `rsync_options = ["--bwlimit=2m"]`)
	s.syncs("ok", "p")
	s.changes()
	s.shell(s.dir, "head -c 3M /dev/zero >src/slow; echo $(losetup -nO BACK-FILE $(findmnt -no SOURCE dst)) >image")
	s.asRsync(`exec 3<&0; case "$*" in *" -n "*) ;; *" -I "*)
	$rsync "$@" <&3 & copying=$!
	until ls -d ` + s.dir + `/dst/.slow.*; do :; done
	umount -l ` + s.dir + `/dst
	wait $copying; exit;;
esac`)
	s.says(1, `rsince: p: .*/dst was unmounted or replaced during the run`, "p")
	s.asRsync("")
	s.shell(s.dir, "! ls -A dst | grep .")
	s.says(5, `(?s)rsince: p: .*/dst is not the directory it was \(is the right disk mounted\?\).*hint: if that is what you want: rsince .*sync --accept p`, "p")
	s.shell(s.dir, "! ls -A dst | grep .; mount -o loop $(cat image) dst")
	s.heals("changes")
}

// A source that is unmounted under its watcher, and mounted again.
func TestSourceUnmounted(t *testing.T) {
	for _, backend := range []string{"fanotify", "inotify"} {
		t.Run(backend, func(t *testing.T) {
			s := faulty(t, backend, map[string]string{"src": "ext4"})
			s.changes()
			s.shell(s.dir, "losetup -nO BACK-FILE $(findmnt -no SOURCE src) >image; umount src || umount -l src")
			s.says(5, `rsince: p: .*/src is not the directory it was`, "p")
			s.untouchedTarget()
			s.shell(s.dir, "mount -o loop $(cat image) src; echo unheard >src/unheard; rm src/d/same")
			s.watcherSays(`p: .*(unmounted|missed)`)
			s.heals("")
			s.holds(false, "dst/d/same")
			s.changes()
			s.heals("")
		})
	}
}

// The source goes away for a run, by force: nothing is deleted.
func TestSourceUnmountedMeanwhile(t *testing.T) {
	s := faulty(t, "fanotify", map[string]string{"src": "ext4"})
	s.changes()
	s.beforeCopying("losetup -nO BACK-FILE $(findmnt -no SOURCE src) >image; umount -l src")
	s.says(1, `rsince: p: .*/src was unmounted or replaced during the run`, "p")
	s.untouchedTarget()
	s.shell(s.dir, "mount -o loop $(cat image) src")
	s.heals("")
}

// What an ordinary user may no longer read stays on the target, what he may is copied.
func TestPermissionLost(t *testing.T) {
	s := unprivileged(t)
	s.changes()
	s.shell(s.dir, "chown -R nobody:nogroup src; chmod 0 src/d; chmod 0 src/kept; echo more >>src/kept")
	s.says(3, `(?s)rsince: p: [0-9]+ paths? failed, the first .*Permission denied.*hint: .*changes p shows what is left`, "p")
	s.holds(true, "dst/kept", "dst/d/changed", "dst/d/same", "dst/new/file")
	s.holds(false, "dst/gone")
	s.tells(0, `Permission denied`, "changes", "p")
	s.shell(s.dir, "chmod 755 src/d; chmod 644 src/kept")
	s.heals("")
}

// The target may no longer be written to.
func TestTargetPermissionLost(t *testing.T) {
	s := unprivileged(t)
	s.changes()
	s.shell(s.dir, "chown -R nobody:nogroup src; chown -R root dst; chmod -R go-w dst")
	s.says(3, `rsince: p: [0-9]+ paths? failed, the first .*(Permission denied|Operation not permitted)`, "p")
	s.untouchedTarget()
	s.shell(s.dir, "chown -R nobody:nogroup dst")
	s.heals("")
	s.shell(s.dir, "chown root dst; chmod 0700 dst")
	s.says(5, `rsince: p: the target is not there: open .*/dst: permission denied`, "p")
	s.shell(s.dir, "chown nobody:nogroup dst; chmod 0755 dst")
	s.heals("")
}

// Nor may the state.
func TestStatePermissionLost(t *testing.T) {
	s := unprivileged(t)
	s.shell(s.dir, "chown -R root state/profiles; chmod -R go-w,go+rX state/profiles")
	s.changes()
	s.shell(s.dir, "chown -R nobody:nogroup src")
	s.says(1, `rsince: p: .*permission denied`, "p")
	s.untouchedTarget()
	s.shell(s.dir, "chown -R nobody:nogroup state/profiles")
	s.heals("")
	s.endWatcher(unix.SIGKILL)
	s.shell(s.dir, "chown -R root state/profiles; echo more >>src/kept")
	s.says(1, `rsince: p: .*permission denied`, "p")
	s.tells(1, `rsince: .*permission denied`, "watch")
	s.shell(s.dir, "chown -R nobody:nogroup state/profiles")
	s.startWatcher("p")
	s.heals("")
}

// unprivileged is a faulty site of an ordinary user.
func unprivileged(t *testing.T) *site {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	t.Parallel()
	s := newSite(t, nobody)
	s.profile("p", s.dir+"/dst")
	s.writes("src/kept", "src/gone", "src/d/changed", "src/d/same")
	s.give()
	s.startWatcher("p")
	s.says(0, "", "p")
	return s
}

// TestUnwrittenTarget has a disk that takes some of what a first run writes and says so only when that is asked for:
// until it is mounted again, the kernel shows contents that the disk does not have.
func TestUnwrittenTarget(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	t.Parallel()
	s := newSite(t, 0)
	s.must(os.Mkdir(s.dir+"/thin", 0o755))
	s.shell(s.dir, `mount -t tmpfs -o size=24m tmpfs thin
truncate -s 100M thin/image
mkfs.ext4 -q -O ^has_journal,^metadata_csum,^uninit_bg -E lazy_itable_init=0,nodiscard thin/image
mount -o loop thin/image dst
mkdir dst/t
for i in $(seq 8); do head -c 4M /dev/urandom >src/$i; done`)
	t.Cleanup(func() {
		s.endWatcher(unix.SIGKILL)
		_ = unix.Unmount(s.dir+"/dst", unix.MNT_DETACH)
		_ = unix.Unmount(s.dir+"/thin", unix.MNT_DETACH)
	})
	s.profile("p", s.dir+"/dst/t", "[watch]", `backend = "fanotify"`)
	s.startWatcher("p")
	s.says(1, "making .* durable: ", "p")
	s.shell(s.dir, "mount -o remount,size=200m thin")
	if r := s.says(0, "", "p"); !strings.Contains(r.Reason, "may not have reached the target's disk") {
		t.Errorf("the second run: %+v", r)
	}
	s.shell(s.dir, "umount dst; mount -o loop thin/image dst")
	s.equal("p", s.dir+"/dst/t")
}

// A target that is empty because nothing fitted is not taken for another one.
func TestNothingFits(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	t.Parallel()
	s := newSite(t, 0)
	s.disk("dst", "tmpfs")
	s.profile("p", s.dir+"/dst", "[watch]", `backend = "none"`)
	s.shell(s.dir, "head -c 3M /dev/urandom >src/large")
	s.says(3, `rsince: p: 1 path failed, the first "large": .*No space left on device`, "p")
	s.says(3, `rsince: p: 1 path failed, the first "large": .*No space left on device`, "p")
	s.shell(s.dir, "mount -o remount,size=10m dst")
	s.heals("")
	s.shell(s.dir, "rm dst/large")
	s.says(5, "dst is empty and held 1 entries", "p")
}
