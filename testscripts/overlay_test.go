package testscripts

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"rsince/testscripts/disk"
	"rsince/testscripts/rig"
)

// TestOverlaid has files changed through overlays whose upper directories are in the source, as those of containers are, on
// a kernel that does not tell of it. What came before an overlay went is copied as well.
func TestOverlaid(t *testing.T) {
	if err := rig.Available("mkfs.ext4", "rsync", "unshare"); err != nil {
		t.Skip(err)
	}
	program := rig.Build(t, "rsince", "build")
	for _, backend := range []string{"fanotify", "inotify"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			m := rig.Machine{Modules: []string{"overlay"}, Disks: []string{filepath.Join(t.TempDir(), "disk")}}
			disk.Sparse(t, m.Disks[0], 400<<20)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			out, exit, err := m.Run(ctx, `set -e
R='`+program+` --config /mnt/etc --state-dir /mnt/state'
mkdir -p /mnt/etc /mnt/a
mkfs.ext4 -qF /dev/ubda
mount /dev/ubda /mnt/a
printf 'source="/mnt/a/src"\ntarget="/mnt/a/copy"\n[watch]\nbackend="`+backend+`"\n' >/mnt/etc/p.toml
cd /mnt/a
mkdir -p src/up src/up2 low work work2 merged merged2
echo 1 | tee src/up/f src/up/g src/up2/h src/up2/i >low/l
mount -t overlay overlay -o lowerdir=low,upperdir="$PWD/src/up",workdir=work merged
unshare --mount sh -ec 'mount -t overlay overlay -o lowerdir=low,upperdir=/mnt/a/src/up2,workdir=work2 merged2; touch /run/mounted
	while ! [ -e /run/write ]; do sleep .05; done; echo 2 >>merged2/h; touch /run/written
	while ! [ -e /run/end ]; do sleep .05; done; echo 2 >>merged2/i' & namespace=$!
until [ -e /run/mounted ]; do sleep .05; done
$R watch >/run/w & until grep -q ^watching /run/w; do sleep .05; done
same() { $R sync -q p 2>/dev/null; diff -r src copy; }
same
echo 2 >>merged/f
touch /run/write; until [ -e /run/written ]; do sleep .05; done
same
echo 2 >>merged/g
umount merged
touch /run/end; wait $namespace
same
$R runs --json | grep -c '"mode":"changes"'
`)
			if exit != 0 || err != nil || string(out) != "2\n" {
				t.Errorf("exit code %d, %v; source and target differ:\n%s", exit, err, out)
			}
		})
	}
}
