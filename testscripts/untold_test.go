package testscripts

import (
	"bufio"
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"rsince/testscripts/rig"
)

// untoldTests are power cuts that leave a source and a target of equal sizes and times and unequal
// contents. State and target are on the second disk. Not among them is content that reached the disk in
// the seconds before its time did (fdatasync, or the flusher, before ext4's commit): nothing tells of it.
var untoldTests = []struct {
	name, mkfs string
	before     string // is done, in the source, before the cut
}{
	// The copy is acknowledged, and the source loses what was copied.
	{"lost from the source, ext4", "ext4", `printf b | dd conv=notrunc of=f; touch -d 2020-01-01 f; mv d z; mv e d; mv z e; rsync=$($R sync --json p)`},
	{"lost from the source, xfs", "xfs", `printf b | dd conv=notrunc of=f; touch -d 2020-01-01 f; mv d z; mv e d; mv z e; rsync=$($R sync --json p)`},
	{"flushed with its time", "ext4", `printf b | dd conv=notrunc,fsync of=f`},
}

const untoldBegin = `set -e
exec 2>/dev/null
mkdir /mnt/a /mnt/b
mount /dev/ubda /mnt/a
mount /dev/ubdb /mnt/b
mkdir -p /mnt/b/tmp /mnt/b/etc /mnt/a/src
export TMPDIR=/mnt/b/tmp
printf 'source="/mnt/a/src"\ntarget="/mnt/b/copy"\n' >/mnt/b/etc/p.toml
cd /mnt/a/src
watch() { $R watch >/run/w & until grep -q ^watching /run/w; do sleep .05; done; }
`

// TestUntold makes sure that the first run after such a cut compares what it cannot know.
func TestUntold(t *testing.T) {
	if err := rig.Available("mkfs.ext4", "mkfs.xfs", "rsync"); err != nil {
		t.Skip(err)
	}
	program := rig.Build(t, "rsince", "build")
	for _, tt := range untoldTests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var m rig.Machine
			for _, name := range []string{"a", "b"} {
				m.Disks = append(m.Disks, filepath.Join(t.TempDir(), name))
				if out, err := exec.Command("sh", "-c", `truncate -s 400M "$0" && mkfs.`+tt.mkfs+` -q "$0"`, m.Disks[len(m.Disks)-1]).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			begin := "R='" + program + " --config /mnt/b/etc --state-dir /mnt/b/state'\n" + untoldBegin
			r, err := m.Start(begin + `date -s '-1 hour' >/dev/null
head -c 4096 /dev/zero | tr '\0' a >f
mkdir d e; echo one >d/x; echo two >e/x; touch -d 2020-01-01 f d/x e/x d e
sync
date -s '+1 hour' >/dev/null
watch
$R sync -q p
sync
` + tt.before + `
echo cut
sleep 1000`)
			if err != nil {
				t.Fatal(err)
			}
			line, _ := bufio.NewReader(r).ReadString('\n')
			r.Kill()
			if _, err := r.Wait(); line != "cut\n" {
				t.Fatalf("%q, %v", line, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			out, exit, err := m.Run(ctx, begin+`watch
$R sync -q p
diff -r /mnt/a/src /mnt/b/copy`)
			if exit != 0 || err != nil {
				t.Errorf("exit code %d, %v; source and target differ:\n%s", exit, err, out)
			}
		})
	}
}
