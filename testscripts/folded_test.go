package testscripts

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"rsince/testscripts/disk"
	"rsince/testscripts/rig"
)

// TestFoldedNames changes names only in case, and takes one of two away that differ only in it, where the target takes them
// for the same. What the source has is there, or the run says that it is not.
func TestFoldedNames(t *testing.T) {
	if err := rig.Available("mkfs.vfat", "rsync"); err != nil {
		t.Skip(err)
	}
	program := rig.Build(t, "rsince", "build")
	m := rig.Machine{Modules: []string{"vfat", "nls_cp437", "nls_ascii", "nls_utf8", "nls_iso8859-1"}, Disks: []string{filepath.Join(t.TempDir(), "disk")}}
	disk.Sparse(t, m.Disks[0], 100<<20)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, exit, err := m.Run(ctx, `set -e
R='`+program+` --config /mnt/etc --state-dir /mnt/state'
mkdir -p /mnt/etc /mnt/src/d/e /mnt/dst
mkfs.vfat /dev/ubda >/dev/null
mount -o utf8 /dev/ubda /mnt/dst
mkdir /mnt/dst/copy
cd /mnt
printf 'source="/mnt/src"\ntarget="/mnt/dst/copy"\n[watch]\nbackend="inotify"\n' >etc/p.toml
echo f >src/f; echo g >src/d/e/g; echo h >src/h
begin() { $R watch >/run/w & watcher=$!; until grep -q ^watching /run/w; do sleep .05; done; }
same() { $R sync -q p 2>/dev/null; diff -r src dst/copy; }
begin
same
mv src/f src/F; same
mv src/d src/D; mv src/D/e src/D/E; same
mv src/D/E/g src/D/E/G; mv src/h src/H; echo more >>src/H; same
echo two >src/f; $R sync -q p 2>/dev/null
rm src/f; same

# Nobody saw it.
kill $watcher; wait $watcher || :
mv src/F src/f; mv src/D src/d
begin
same
$R runs --json | grep -o '"mode":"[a-z]*"' | sort | uniq -c
`)
	const want = "      5 \"mode\":\"changes\"\n      1 \"mode\":\"full\"\n      1 \"mode\":\"gap\"\n"
	if exit != 0 || err != nil || string(out) != want {
		t.Errorf("exit code %d, %v:\n%s", exit, err, out)
	}
}
