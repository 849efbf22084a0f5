package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const owner = "20260102T030405Z-0a0b"

// write overwrites so many megabytes of a volume's file system.
func write(t *testing.T, name string, megabytes int) {
	t.Helper()
	sh(t, fmt.Sprintf("head -c %dM /dev/urandom >/mnt/%s/large; sync -f /mnt/%s", megabytes, name, name))
}

// TestTrouble is what a snapshot is asked for and cannot give.
func TestTrouble(t *testing.T) {
	if !inside(t, "mkfs.ext4", "dmsetup") {
		return
	}
	ctx := t.Context()
	origin := volume(t, "a", "ext4", false)
	thin := volume(t, "b", "ext4", true)
	take := func(t *testing.T, v Volume, size int64) *Snapshot {
		t.Helper()
		s, err := Take(ctx, v, owner, size)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}

	t.Run("overflow", func(t *testing.T) {
		s := take(t, origin, 4<<20)
		write(t, "a", 20)
		var full *FullError
		if err := s.Look(ctx); !errors.As(err, &full) || full.Size != 4<<20 {
			t.Errorf("after an overflow: %v", err)
		}
		if err := s.Remove(ctx); err != nil {
			t.Error(err)
		}
		clean(t)
	})
	t.Run("growth", func(t *testing.T) {
		s := take(t, origin, 40<<20)
		write(t, "a", 10)
		if err := s.Look(ctx); err != nil || s.Used < 20 || s.Used >= 100 {
			t.Errorf("partly full: %v, %v", s.Used, err)
		}
		if err := s.Grow(ctx, 120<<20); err != nil {
			t.Error(err)
		}
		write(t, "a", 60)
		if err := s.Look(ctx); err != nil || s.Size != 160<<20 {
			t.Errorf("grown: %+v, %v", s, err)
		}
		var none *NoSpaceError
		if err := s.Grow(ctx, 1<<30); !errors.As(err, &none) {
			t.Errorf("grown beyond its group: %v", err)
		}
		if err := errors.Join(s.Remove(ctx), s.Remove(ctx)); err != nil {
			t.Error(err)
		}
		clean(t)
	})
	t.Run("no space", func(t *testing.T) {
		var none *NoSpaceError
		if _, err := Take(ctx, origin, owner, 1<<30); !errors.As(err, &none) || none.Where != "vg" {
			t.Errorf("a snapshot larger than its group: %v", err)
		}
		clean(t)
	})
	t.Run("another's", func(t *testing.T) {
		ours := take(t, origin, 4<<20)
		theirs, err := Take(ctx, origin, "20260102T030405Z-ffff", 4<<20)
		if err != nil {
			t.Fatal(err)
		}
		sh(t, "lvcreate -q -y -s -L 4M -n rsince-mine vg/a")
		if err := ours.Remove(ctx); err != nil {
			t.Error(err)
		}
		taken, err := Taken(ctx)
		if err != nil || len(taken) != 1 || taken[0].UUID != theirs.UUID || taken[0].Owner != "20260102T030405Z-ffff" {
			t.Errorf("left are %+v, %v", taken, err)
		}
		sh(t, "lvremove -q -f vg/rsince-mine")
		if err := theirs.Remove(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Run("in use", func(t *testing.T) {
		s := take(t, origin, 4<<20)
		sh(t, "mkdir -p /mnt/s; mount -o ro "+s.Device()+" /mnt/s")
		late := time.AfterFunc(300*time.Millisecond, func() { _ = unix.Unmount("/mnt/s", 0) })
		defer late.Stop()
		if err := s.Remove(ctx); err != nil {
			t.Error(err)
		}
		clean(t)
	})
	t.Run("interrupted", func(t *testing.T) {
		for i := range 8 {
			ctx, cancel := context.WithTimeout(ctx, time.Duration(i)*60*time.Millisecond)
			s, err := Take(ctx, []Volume{origin, thin}[i%2], owner, 4<<20)
			cancel()
			if err == nil {
				err = s.Remove(t.Context())
			} else if errors.Is(err, context.DeadlineExceeded) {
				err = nil
			}
			if err != nil {
				t.Error(err)
			}
			clean(t)
		}
		if out := sh(t, "dmsetup info"); strings.Contains(out, "SUSPENDED") {
			t.Errorf("a volume is suspended: %s", out)
		}
	})
	t.Run("thin", func(t *testing.T) {
		s := take(t, thin, 0)
		write(t, "b", 40)
		if err := s.Look(ctx); err != nil || s.Used < 10 || s.UsedMetadata == 0 {
			t.Errorf("%+v, %v", s, err)
		}
		if err := s.Remove(ctx); err != nil {
			t.Error(err)
		}
		clean(t)
	})
	t.Run("full pool", func(t *testing.T) {
		sh(t, "lvcreate -q -y --type thin-pool -L 40M -n small vg; lvcreate -q -y -V 40M --thinpool small -n tiny vg")
		sh(t, "dd if=/dev/zero of=/dev/vg/tiny bs=1M count=39 conv=fsync 2>&1")
		all, err := volumes(ctx)
		if err != nil {
			t.Fatal(err)
		}
		tiny, err := named(all, "vg", "tiny")
		if err != nil {
			t.Fatal(err)
		}
		var none *NoSpaceError
		if _, err := Take(ctx, tiny, owner, 0); !errors.As(err, &none) || none.Where != "vg/small" {
			t.Errorf("a snapshot in a full pool: %v", err)
		}
		clean(t)
	})
	t.Run("no volume", func(t *testing.T) {
		var not *NotVolumeError
		if _, err := Below(ctx, mountOf(t, "/run")); !errors.As(err, &not) || not.Device != "tmpfs" {
			t.Errorf("%v", err)
		}
	})
}

const killedEnv = "RSINCE_KILLED"

// A process that is killed leaves a snapshot and no mount.
func TestKilled(t *testing.T) {
	if os.Getenv(killedEnv) != "" {
		v, err := Below(t.Context(), mountOf(t, "/mnt/a"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := Take(t.Context(), v, owner, 4<<20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(t.Context(), "ext4", "/"); err != nil {
			t.Fatal(err)
		}
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	if !inside(t, "mkfs.ext4") {
		return
	}
	volume(t, "a", "ext4", false)
	cmd := exec.Command(os.Args[0], "-test.run", "^TestKilled$")
	cmd.Env = append(os.Environ(), killedEnv+"=1")
	if out, err := cmd.CombinedOutput(); err == nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	taken, err := Taken(t.Context())
	if err != nil || len(taken) != 1 || taken[0].Owner != owner {
		t.Fatalf("taken are %+v, %v", taken, err)
	}
	if err := taken[0].Remove(t.Context()); err != nil {
		t.Error(err)
	}
	clean(t)
}
