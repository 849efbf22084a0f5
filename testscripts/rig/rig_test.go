package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// childEnv makes the test binary start a machine with this disk, in which nothing ends, and wait.
const childEnv = "RSINCE_RIG_TEST_CHILD"

func TestMain(m *testing.M) {
	image := os.Getenv(childEnv)
	if image == "" {
		os.Exit(m.Run())
	}
	r, err := Machine{Disks: []string{image}}.Start("exec 3</dev/ubda; echo up; sleep 1000")
	if err == nil {
		_, err = bufio.NewReader(r).WriteTo(os.Stdout)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// run runs a script in a machine, within a time in which it should, beside others, be done.
func run(t *testing.T, m Machine, script string) (output string, exit int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, exit, err := m.Run(ctx, script)
	if err != nil {
		t.Fatalf("%v; output:\n%s", err, out)
	}
	unused(t, m.Disks)
	return string(out), exit
}

// machines makes a test run beside others where it can run at all.
func machines(t *testing.T, programs ...string) {
	t.Helper()
	if err := Available(programs...); err != nil {
		t.Skip(err)
	}
	t.Parallel()
}

// disk makes an image of 200 MB.
func disk(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "an image, of a: disk")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 200<<20); err != nil {
		t.Fatal(err)
	}
	return image
}

// users lists the processes that have a file open, or its memory in /dev/shm.
func users(t *testing.T, file string) (pids []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if to, _ := os.Readlink(link); to == file {
			pids = append(pids, strings.Split(link, "/")[2])
		}
	}
	return slices.Compact(pids)
}

func unused(t *testing.T, files []string) {
	t.Helper()
	for _, file := range files {
		if pids := users(t, file); len(pids) > 0 {
			t.Errorf("processes %q still have %s open", pids, file)
		}
	}
}

func TestRun(t *testing.T) {
	machines(t)
	dir := t.TempDir()
	output, exit := run(t, Machine{Exchange: dir, Memory: "256M"}, `
printf 'a\nb\0\377'
echo c >&2
echo from the machine >`+dir+`/file
touch /etc/rig 2>/dev/null || echo read-only
sleep 1000 &
(exit 7)`)
	if want := "a\nb\x00\xffc\nread-only\n"; output != want || exit != 7 {
		t.Errorf("%q, exit code %d; want %q and 7", output, exit, want)
	}
	if text, err := os.ReadFile(dir + "/file"); string(text) != "from the machine\n" {
		t.Errorf("the file: %q, %v", text, err)
	}
}

// TestLongOutput is about what is on its way when the script ends.
func TestLongOutput(t *testing.T) {
	machines(t)
	output, _ := run(t, Machine{}, "seq 200000")
	if lines := strings.Count(output, "\n"); lines != 200_000 || !strings.HasSuffix(output, "\n200000\n") {
		t.Errorf("%d lines, the last %q", lines, output[max(0, len(output)-20):])
	}
}

func TestTimeout(t *testing.T) {
	machines(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	image := disk(t)
	_, _, err := Machine{Disks: []string{image}}.Run(ctx, "exec 3</dev/ubda; sleep 1000")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	unused(t, []string{image})
}

func TestPanic(t *testing.T) {
	machines(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, _, err := Machine{}.Run(ctx, "echo c >/proc/sysrq-trigger")
	if err == nil || !strings.Contains(err.Error(), "sysrq triggered crash") {
		t.Errorf("the error is %v", err)
	}
}

func TestWrongDisks(t *testing.T) {
	for _, disks := range [][]string{{"/nowhere"}, make([]string, maxDisks+1)} {
		if _, err := (Machine{Disks: disks}).Start("true"); err == nil {
			t.Errorf("disks %q are possible", disks)
		}
	}
}

// TestKilled kills the process that started a machine.
func TestKilled(t *testing.T) {
	machines(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	image := disk(t)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+image)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if len(users(t, image)) == 0 {
		t.Errorf("no process has the disk open; it says %q, %v", line, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for end := time.Now().Add(10 * time.Second); len(users(t, image)) > 0; {
		if time.Now().After(end) {
			unused(t, []string{image})
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestPowerCut makes sure that what was flushed is there after a power cut, and that what was not is gone.
func TestPowerCut(t *testing.T) {
	machines(t, "mkfs.ext4")
	m := Machine{Disks: []string{disk(t)}}
	r, err := m.Start(`mkfs.ext4 -q /dev/ubda && mount /dev/ubda /mnt && cd /mnt &&
seq 100000 >kept && sync kept && seq 100000 >lost && echo written && sleep 1000`)
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	r.Kill()
	if _, gone := r.Wait(); line != "written\n" || gone == nil {
		t.Fatalf("%q, %v; after the power cut: %v", line, err, gone)
	}
	unused(t, m.Disks)
	output, _ := run(t, m, `mount /dev/ubda /mnt && cd /mnt && seq 100000 | cmp - kept && stat -c %s lost`)
	if !strings.HasPrefix(output, "0\n") && !strings.HasPrefix(output, "stat: cannot stat") {
		t.Errorf("of two files, the second not flushed: %s", output)
	}
}

func TestLVM(t *testing.T) {
	machines(t, "lvm", "thin_check", "mkfs.ext4")
	output, exit := run(t, Machine{Disks: []string{disk(t)}, Modules: []string{"dm-snapshot", "dm-thin-pool"}}, `set -e
{
vgcreate vg /dev/ubda
lvcreate -L 60M -n plain vg
lvcreate -L 20M -s -n frozen vg/plain
lvcreate -L 60M -T vg/pool
lvcreate -V 20M -T vg/pool -n thin
lvcreate -s -kn -n thinner vg/thin
for lv in frozen thinner; do
	mkfs.ext4 -q /dev/vg/$lv
	mount /dev/vg/$lv /mnt
	umount /mnt
done
} >/dev/null
lvs --noheadings -o lv_name,segtype,origin --separator , | tr -d ' '`)
	want := "frozen,linear,plain\nplain,linear,\npool,thin-pool,\nthin,thin,\nthinner,thin,thin\n"
	if output != want || exit != 0 {
		t.Errorf("exit code %d and\n%s\nwant\n%s", exit, output, want)
	}
}

// TestBadDisk reads from a disk of which some sectors are bad.
func TestBadDisk(t *testing.T) {
	machines(t, "dmsetup")
	output, _ := run(t, Machine{Disks: []string{disk(t)}, Modules: []string{"dm-dust"}}, `export DM_DISABLE_UDEV=1
dmsetup create bad --table "0 8192 dust /dev/ubda 0 512"
dmsetup message bad 0 addbadblock 8
dmsetup message bad 0 enable
for block in 7 8; do dd if=/dev/mapper/bad of=/dev/null bs=512 skip=$block count=1 iflag=direct 2>/dev/null && echo $block can be read; done`)
	if output != "7 can be read\n" {
		t.Errorf("%s", output)
	}
}
