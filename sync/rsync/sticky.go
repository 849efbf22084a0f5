package rsync

import (
	"context"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// halfDone reports whether rsync leaves a directory that it gives its mode with another ACL than the source's: one that
// becomes sticky gets no rights for its group until it is, and of those in an ACL rsync does not think again (acls.c,
// change_sacl_perms, 3.2.7 to 3.5.0).
func (e *Engine) halfDone(item Item) bool {
	if e.finishing || !item.Dir || item.Action == Delete || e.DryRun || !e.Capabilities.ACLs {
		return false
	}
	path := filepath.Join(e.Source, item.Path)
	st, err := lstat(path)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&unix.S_ISVTX == 0 {
		return false
	}
	size, err := unix.Lgetxattr(path, aclXattr, nil)
	return err == nil && size > 0
}

// finish has rsync look once more at directories of which halfDone is true. They are counted already.
func (e *Engine) finish(ctx context.Context, dirs []string) (Result, error) {
	if len(dirs) == 0 {
		return Result{}, nil
	}
	silent := *e
	silent.Items, silent.Progress, silent.finishing = nil, nil, true
	res, err := silent.Paths(ctx, dirs, false)
	return Result{Failed: res.Failed, Vanished: res.Vanished, Killed: res.Killed, Leftovers: res.Leftovers}, err
}
