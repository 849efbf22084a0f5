package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// machine tells in one line where the numbers come from.
func machine(ctx context.Context, dir string) (string, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", fmt.Errorf("asking for the kernel: %w", err)
	}
	mount, err := mountOf(dir)
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "rsync", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("asking rsync for its version: %w", err)
	}
	rsync, _, _ := strings.Cut(string(out), "\n")
	kernel := string(uts.Release[:bytes.IndexByte(uts.Release[:], 0)])
	return fmt.Sprintf("machine: %d cores, Linux %s, %s on %s, %s", runtime.NumCPU(), kernel, mount.FSType,
		mount.Source, strings.Join(strings.Fields(rsync), " ")), nil
}

// mountOf returns the mount that dir, an absolute path without symlinks, lies in.
func mountOf(dir string) (*mountinfo.Info, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(dir))
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	var nearest *mountinfo.Info
	for _, m := range mounts {
		if nearest == nil || len(m.Mountpoint) >= len(nearest.Mountpoint) { // the later one hides the earlier
			nearest = m
		}
	}
	if nearest == nil {
		return nil, fmt.Errorf("no mount holds %s", dir)
	}
	return nearest, nil
}

// checkDisk tells early when dir cannot hold the tree and its two copies, or is not on a disk.
func checkDisk(dir string, dirs int) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("asking about the file system of %s: %w", dir, err)
	}
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		return fmt.Errorf("%s is in memory: choose a directory on a disk with -dir", dir)
	}
	inodes := uint64(3 * dirs * (1 + filesPerDir))
	if fs.Files > 0 && fs.Ffree < inodes { // btrfs counts none
		return fmt.Errorf("%s has %d free inodes, the tree and its copies take %d", dir, fs.Ffree, inodes)
	}
	if space, free := inodes*uint64(fs.Bsize), fs.Bavail*uint64(fs.Bsize); free < space {
		return fmt.Errorf("%s has %d bytes free, the tree and its copies take up to %d", dir, free, space)
	}
	return nil
}
