package rsync

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"rsince/testscripts/disk"
)

// xfs has an ACL among the xattrs that root sees. What is copied from another file system keeps it when other xattrs
// change, and what is copied from xfs has no such xattr elsewhere.
func TestACLOnXFS(t *testing.T) {
	needRoot(t)
	const user, kept = "user.x", "trusted.SGI_ACL_FILE"
	for _, end := range []string{"source", "target"} {
		t.Run(end, func(t *testing.T) {
			e := newEngine(t)
			e.Capabilities = everything
			dir := map[string]string{"source": e.Source, "target": e.Target}[end]
			disk.On(t, dir, "xfs")
			write(t, e.Source, "f=1")
			from, to := filepath.Join(e.Source, "f"), filepath.Join(e.Target, "f")
			err := unix.Setxattr(from, aclXattr, probeACL(), 0)
			for _, value := range []string{"1", "2"} {
				err = errors.Join(err, unix.Setxattr(from, user, []byte(value), 0))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := e.Paths(t.Context(), []string{"f"}, false); err != nil {
					t.Error(err)
				}
				if !sameXattr(from, to, aclXattr) || !sameXattr(from, to, user) {
					t.Errorf("with %s the copy has not what the source has", value)
				}
			}
			if size, err := unix.Getxattr(to, kept, nil); (err == nil) != (end == "target") {
				t.Errorf("%s of the copy: %d bytes, %v", kept, size, err)
			}
		})
	}
}

// A directory that becomes sticky gets its ACL only when rsync comes to it a second time.
func TestACLOfStickyDirectory(t *testing.T) {
	needRoot(t)
	for name, pass := range map[string]func(e *Engine) (Result, error){
		"full":    func(e *Engine) (Result, error) { return e.Full(t.Context(), true) },
		"subtree": func(e *Engine) (Result, error) { return e.Subtrees(t.Context(), []string{"d"}) },
		"path":    func(e *Engine) (Result, error) { return e.Paths(t.Context(), []string{"d", "d/sticky"}, true) },
		"becoming": func(e *Engine) (Result, error) {
			write(t, e.Target, "d/sticky/")
			return e.Subtrees(t.Context(), []string{"d"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			e.Capabilities = everything
			dir := filepath.Join(e.Source, "d/sticky")
			if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Setxattr(dir, aclXattr, probeACL(), 0), os.Chmod(dir, 0o755|os.ModeSticky)); err != nil {
				t.Fatal(err)
			}
			res, err := pass(e)
			if err != nil || len(res.Failed) > 0 || res.Created+res.Updated > 2 {
				t.Errorf("%+v, %v", res, err)
			}
			if !sameXattr(dir, filepath.Join(e.Target, "d/sticky"), aclXattr) {
				t.Error("the copy has another ACL")
			}
		})
	}
}
