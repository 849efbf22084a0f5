package testscripts

import (
	"os"
	"os/exec"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// diskCommand mounts a file system of its own on a loop device.
//
//	disk make IMAGE MKFS [ARG...]   a sparse image of 400 MiB, formatted by mkfs.MKFS
//	disk mount IMAGE DIR [OPTION]   unmounted at the end of the script if not before
//	disk unmount DIR
func diskCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: disk make IMAGE MKFS [ARG...] | mount IMAGE DIR [OPTION] | unmount DIR")
	}
	path := ts.MkAbs(args[1])
	switch args[0] {
	case "make":
		ts.Check(os.WriteFile(path, nil, 0o600))
		ts.Check(os.Truncate(path, 400<<20))
		command(ts, "mkfs."+args[2], append(args[3:], path)...)
	case "mount":
		dir, options := ts.MkAbs(args[2]), "loop"
		if len(args) > 3 {
			options += "," + args[3]
		}
		command(ts, "mount", "-o", options, path, dir)
		ts.Defer(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	case "unmount":
		command(ts, "umount", path)
	default:
		ts.Fatalf("disk: %q is not make, mount or unmount", args[0])
	}
}

func command(ts *testscript.TestScript, name string, args ...string) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		ts.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}
