package testscripts

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"rsince/testscripts/rig"
)

// rigFaults are done in a machine, by a shell. Source, target and state of a profile p lie on disks of their
// own, /mnt/src, /mnt/dst and /mnt/state, each of which can be made to fail; the profile was copied, and a
// watcher runs.
var rigFaults = []struct{ name, script string }{
	{"target", `
# Its disk fails to write.
breaks dst flakey "/dev/ubdb 0 0 100 1 error_writes"
changes
says 1 'rsince: p: .*(read-only|[Ii]nput/output error)' $R sync p
untouched
mends dst
heals

# It is unplugged in the middle of a run.
changes
before 'dmsetup remove --force dst 2>/dev/null'
says 1 'rsince: p: .*([Ii]nput/output error|read-only|[Ss]tructure needs cleaning)' $R sync p
before :
mends dst
untouched
heals

# It is away before the run.
changes
breaks dst error
echo 3 >/proc/sys/vm/drop_caches
says 5 'rsince: p: the target is not there: open /mnt/dst/copy: input/output error' $R sync p
umount -l /mnt/dst
says 5 'rsince: p: the target is not there: open /mnt/dst/copy: no such file or directory' $R sync p
ls -A /mnt/dst | grep . && say "something was written where no disk is"
mends dst
untouched
heals`},
	{"source and state", `
# A sector of a file is bad.
head -c 1M /dev/urandom >/mnt/src/bad; sync -f /mnt/src
sector=$(( $(filefrag -b1024 -e /mnt/src/bad | awk '/^ *0:/ {sub(/\.\./, "", $4); print $4}') * 2 ))
breaks src dust "/dev/ubda 0 512"
dmsetup message src 0 addbadblock $((sector + 200))
dmsetup message src 0 enable
echo 3 >/proc/sys/vm/drop_caches
changes
says 3 'rsince: p: 1 path failed, the first "bad": .*Input/output error' $R sync p
untouched
says 0 'bad .*Input/output error' $R changes p
dmsetup message src 0 removebadblock $((sector + 200))
heals

# All of the source fails.
changes
sync
breaks src error
echo 3 >/proc/sys/vm/drop_caches
says '[135]' 'rsince: p: .*[Ii]nput/output error' $R sync p
untouched
unwatch
mends src
watch
heals

# The state's disk fails to write.
breaks state flakey "/dev/ubdc 0 0 100 1 error_writes"
changes
says 1 'rsince: p: .*([Ii]nput/output error|read-only file system)' $R sync p
untouched
unwatch
mends state
watch
heals`},
	{"clock", `
# It is set while a watcher runs, and while a run does.
date -s '-1 day' >/dev/null; changes; heals
date -s '+400 days' >/dev/null; changes; date -s '-2 years' >/dev/null; changes; heals
before "date -s '-1 day' >/dev/null"; changes; heals; before :

# It is set while nobody watches.
unwatch
date -s '-1 day' >/dev/null; changes; hidden; heals
$R runs --json --limit 1 p | grep -q 'the clock was set back' || say "no word of the clock"
date -s '+3 years' >/dev/null; changes; hidden; heals
date -s '-2 years' >/dev/null; changes; watch; hidden; heals
changes; heals`},
}

const rigBegin = `
export DM_DISABLE_UDEV=1 TMPDIR=/mnt/tmp
say() { echo "$*"; }
sectors() { blockdev --getsz /dev/ubd$1; }
disk() { case $1 in src) echo a;; dst) echo b;; state) echo c;; esac; }
# breaks NAME TARGET [ARGUMENTS]: from now on the disk is of this kind.
breaks() {
	size=$(sectors $(disk $1)); name=$1; shift
	dmsetup suspend --noflush --nolockfs $name && dmsetup load $name --table "0 $size $*" && dmsetup resume $name || say "cannot break $name"
}
# mends NAME: the disk is sound again, checked and mounted.
mends() {
	umount -l /mnt/$1 2>/dev/null
	for try in $(seq 100); do grep -q "/dev/mapper/$1 " /proc/mounts || break; sleep .05; done
	dmsetup remove --force $1 2>/dev/null
	dmsetup create $1 --table "0 $(sectors $(disk $1)) linear /dev/ubd$(disk $1) 0" 2>/dev/null || 
		breaks $1 linear /dev/ubd$(disk $1) 0
	e2fsck -fp /dev/mapper/$1 >/run/fsck; test $? -le 1 || e2fsck -fy /dev/mapper/$1 >/run/fsck
	mount /dev/mapper/$1 /mnt/$1 || say "cannot mount $1"
}
# says CODE WORDS COMMAND
says() {
	code=$1; words=$2; shift 2
	timeout 100 "$@" >/run/said 2>&1; got=$?
	case $got in $code) grep -Eq "$words" /run/said && return;; esac
	say "$* ended with $got, expected $code and $words, and said:"; head -c 1500 /run/said
}
changes() { n=$((n + 1)); (cd /mnt/src && echo $n >>d/changed && rm -f gone && mkdir -p new && echo $n >>new/file); }
# hidden has a change of content behind the size and the time of a file.
hidden() { touch -r /mnt/src/hidden /run/stamp; printf %04d $n >/mnt/src/hidden; touch -r /run/stamp /mnt/src/hidden; }
untouched() { for f in kept d/changed d/same hidden; do test -e /mnt/dst/copy/$f || say "$f is gone from the target"; done; }
heals() {
	timeout 100 $R sync -q p >/run/said 2>&1 || { say "the next run ended with $?:"; head -c 1500 /run/said; }
	rsync -aHAXn --checksum --delete -i --modify-window=-1 /mnt/src/ /mnt/dst/copy/ | head -5
	diff -r /mnt/src /mnt/dst/copy | head -5
}
watch() { $R watch >/run/watching 2>>/run/watcher & watcher=$!; for try in $(seq 400); do grep -q ^watching /run/watching && return; sleep .05; done; say "the watcher does not start: $(tail -c 500 /run/watcher)"; }
unwatch() { kill -9 $watcher; wait $watcher 2>/dev/null; }
# before COMMAND: is done before the first rsync that copies.
before() {
	rm -f /run/once
	printf '#!/bin/sh\ncase "$*" in *" -n "* | *rsince-probe*) ;; *progress2* | *--files-from*) [ -e /run/once ] || { touch /run/once; %s; };; esac\nexec /usr/bin/rsync "$@"\n' "$1" >/run/bin/rsync
	chmod +x /run/bin/rsync
}
mkdir -p /mnt/src /mnt/dst /mnt/state /mnt/tmp /mnt/etc /run/bin
mkfs.ext4 -q /dev/ubdd && mount /dev/ubdd /mnt/tmp # a tmpfs of this kernel keeps no xattrs, which rsince tries out
export PATH=/run/bin:$PATH
for d in src dst state; do
	dmsetup create $d --table "0 $(sectors $(disk $d)) linear /dev/ubd$(disk $d) 0"
	mkfs.ext4 -q -b 1024 -e remount-ro /dev/mapper/$d && mount /dev/mapper/$d /mnt/$d && rmdir /mnt/$d/lost+found
done
printf 'source = "/mnt/src"\ntarget = "/mnt/dst/copy"\nstall = "20s"\n' >/mnt/etc/p.toml
n=0
mkdir /mnt/src/d
for f in kept gone d/changed d/same; do echo $f >/mnt/src/$f; done
printf 0000 >/mnt/src/hidden
watch
timeout 100 $R sync -q p || say "the first run failed"
sync
`

// TestRigFaults has disks and clocks fail that a test does not have on its own machine.
func TestRigFaults(t *testing.T) {
	if err := rig.Available("mkfs.ext4", "rsync", "dmsetup", "filefrag"); err != nil {
		t.Skip(err)
	}
	program := rig.Build(t, "rsince", "build")
	for _, tt := range rigFaults {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := rig.Machine{Modules: []string{"dm-flakey", "dm-dust"}}
			for _, name := range []string{"source", "target", "state", "tmp"} {
				image := filepath.Join(t.TempDir(), name)
				if out, err := exec.Command("truncate", "-s", "32M", image).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				m.Disks = append(m.Disks, image)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			begin := "R='" + program + " --config /mnt/etc --state-dir /mnt/state/rsince'\n" + rigBegin
			out, _, err := m.Run(ctx, begin+tt.script)
			if len(out) > 0 || err != nil {
				t.Errorf("%v; the machine says:\n%s", err, cut(string(out)))
			}
		})
	}
}
