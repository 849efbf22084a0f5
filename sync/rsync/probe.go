package rsync

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Probe finds out what e.Target keeps and what the two rsyncs can do, by behaviour: it sends a small
// tree into a directory of its own below the target, gets it back, compares, and removes it again.
// Of e it uses what concerns the target and the processes. The target directory gets back the time that it had,
// unless the probe is killed. A target that is not there, or that cannot be written to, is an error; one that keeps
// less is not.
func (e *Engine) Probe(ctx context.Context) (Capabilities, error) {
	p, err := newProbe(e)
	if err != nil {
		return Capabilities{}, fmt.Errorf("probing %s: %w", e.Target, err)
	}
	defer p.release()

	if err := p.readTime(ctx); err != nil {
		return Capabilities{}, fmt.Errorf("probing %s: %w", e.Target, err)
	}
	err = p.run(ctx)
	if cleanErr := p.clean(context.WithoutCancel(ctx)); err == nil {
		err = cleanErr
	}
	if err != nil {
		return Capabilities{}, fmt.Errorf("probing %s: %w", e.Target, err)
	}
	// Both are for the log; the behaviour is known without them.
	if out, err := exec.CommandContext(ctx, e.program(), "--version").Output(); err == nil {
		p.found.Version = parseVersion(string(out))
	}
	if out, err := e.ask(ctx, "rsync --version"); err == nil {
		p.found.RemoteVersion = parseVersion(out)
	}
	return p.found, nil
}

// A probe is one tree on its way to the target and back.
type probe struct {
	engine Engine // from sent to the probe's directory on the target
	target string // where that directory is
	name   string // its name there
	dir    string // holds sent, back and empty
	found  Capabilities

	release func() error
}

const probeXattr = "user.rsince"

// probeRootXattr is one that only root's processes see.
const probeRootXattr = "trusted.rsince"

// probePrefix begins the name of a probe's directory on the target.
const probePrefix = ".rsince-probe-"

func newProbe(e *Engine) (*probe, error) {
	dir, release, err := scratchDir()
	if err != nil {
		return nil, err
	}
	p := &probe{engine: *e.From(filepath.Join(dir, "sent")), target: e.Target, dir: dir, release: release, name: probePrefix + rand.Text()[:12]}
	p.engine.Target = withSlash(e.Target) + p.name
	p.engine.Filters, p.engine.Items, p.engine.Progress = nil, nil, nil
	p.engine.OneFileSystem, p.engine.DryRun = false, false
	p.engine.Capabilities = Capabilities{Owners: true, Permissions: true, Symlinks: true, Specials: true}
	if err := p.plant(); err != nil {
		return nil, errors.Join(fmt.Errorf("making files to send: %w", err), release())
	}
	return p, nil
}

// probeTime has an odd second, so that two-second time stamps show, and all digits of a nanosecond.
var probeTime = time.Date(2021, 3, 4, 5, 6, 7, 123456789, time.UTC)

// plant makes the tree that is sent. What this file system refuses is left out and found missing.
func (p *probe) plant() error {
	for _, name := range [...]string{"sent", "back", "empty"} {
		if err := os.Mkdir(filepath.Join(p.dir, name), 0o755); err != nil {
			return err
		}
	}
	file := p.sent("file")
	for _, name := range append([]string{"file", "gone"}, probeNames...) {
		if err := os.WriteFile(p.sent(name), []byte(name), 0o600); err != nil {
			return err
		}
	}
	err := errors.Join(
		os.Link(file, p.sent("link")),
		os.Symlink("file", p.sent("symlink")),
		os.Symlink(probeElsewhere, p.sent("elsewhere")),
		unix.Mkfifo(p.sent("fifo"), 0o600),
	)
	if os.Geteuid() == 0 {
		err = errors.Join(err, os.Lchown(file, probeUID, probeUID))
	}
	// A file system without modes shows a plain one for every file.
	err = errors.Join(err, os.Chmod(file, 0o751|fs.ModeSetuid))
	_ = unix.Lsetxattr(file, probeXattr, []byte("kept"), 0)
	_ = unix.Lsetxattr(file, probeRootXattr, []byte("kept"), 0)
	_ = unix.Lsetxattr(file, aclXattr, probeACL(), 0)
	return errors.Join(err, os.Chtimes(file, probeTime, probeTime))
}

// probeNames are names that vfat takes for two, as macOS does with the first two.
var probeNames = []string{"case", "CASE", "dot", "dot."}

// probeElsewhere is where a symlink leads that leaves the target. A daemon without chroot changes it
// (rsyncd.conf(5), munge symlinks).
const probeElsewhere = "/rsince/elsewhere"

// probeUID is an owner that no file gets by itself.
const probeUID = 54321

func (p *probe) sent(name string) string { return filepath.Join(p.dir, "sent", name) }
func (p *probe) back(name string) string { return filepath.Join(p.dir, "back", name) }

// run sends the tree, finds out what the programs can do, and gets the tree back.
func (p *probe) run(ctx context.Context) error {
	if err := p.pass(ctx, "-r"); err != nil {
		return err
	}
	if err := p.programs(ctx); err != nil {
		return err
	}
	args, err := p.features(ctx)
	if err != nil {
		return err
	}
	back := p.engine
	back.Source = filepath.Join(p.dir, "back")
	if _, err := back.run(ctx, pass{args: args, back: true}); err != nil {
		return err
	}
	return p.compare()
}

// features sends the tree again with all that both rsyncs were built for, and returns the arguments.
// Only when they refuse everything together is it asked for one by one.
func (p *probe) features(ctx context.Context) ([]string, error) {
	wanted := []string{"-X", "-A", "-H"}
	if ok, err := p.send(ctx, wanted...); ok || err != nil {
		return append(wanted, "-r"), err
	}
	supported := []string{"-r"}
	for _, arg := range wanted {
		ok, err := p.send(ctx, arg)
		if err != nil {
			return nil, err
		}
		if ok {
			supported = append(supported, arg)
		}
	}
	_, err := p.send(ctx, supported...)
	return supported, err
}

// send sends the tree again and reports whether the two rsyncs do what the arguments ask for. The error is
// one that says nothing of that.
func (p *probe) send(ctx context.Context, args ...string) (ok bool, err error) {
	return able(p.pass(ctx, append([]string{"-r", "-I"}, args...)...))
}

// pass sends the tree. What the target has no room for it may well keep.
func (p *probe) pass(ctx context.Context, args ...string) error {
	res, err := p.engine.run(ctx, pass{args: args, trial: true})
	for _, f := range res.Failed {
		if err == nil && f.full() {
			err = fmt.Errorf("%w: %s", ErrTargetFull, f.Reason)
		}
	}
	return err
}

// able turns the error of a pass that asks for much into whether the two rsyncs can do it.
func able(err error) (ok bool, trouble error) {
	var exit *ExitError
	if errors.As(err, &exit) && exit.declined() {
		return false, nil
	}
	return err == nil, err
}

// programs finds out what the two rsyncs can do together.
func (p *probe) programs(ctx context.Context) error {
	deleting := p.engine
	deleting.Capabilities.DeleteMissingArgs = true
	if err := os.Remove(p.sent("gone")); err != nil {
		return err
	}
	res, err := deleting.Deletions(ctx, []string{"gone"})
	if errors.Is(err, ErrProtocol) { // the connection may have broken
		res, err = deleting.Deletions(ctx, []string{"gone"})
	}
	if ctx.Err() != nil || errors.Is(err, ErrUnreachable) {
		return err
	}
	p.found.DeleteMissingArgs = err == nil && res.Deleted == 1 // without it rsync fails in several ways
	if !remote(p.target) {
		p.found.Fsync = true
		return nil
	}
	p.found.Fsync, err = p.send(ctx, "--fsync")
	return err
}

// compare fills in what came back as it was sent, and says what did not.
func (p *probe) compare() error {
	sent, err := lstat(p.sent("file"))
	if err != nil {
		return err
	}
	back, err := lstat(p.back("file"))
	if err != nil {
		return err
	}
	f := &p.found
	f.Xattrs = sameXattr(p.sent("file"), p.back("file"), probeXattr)
	f.UserXattrs = f.Xattrs && hasXattr(p.sent("file"), probeRootXattr) && !hasXattr(p.back("file"), probeRootXattr)
	f.ACLs = sameXattr(p.sent("file"), p.back("file"), aclXattr)
	f.Owners = back.Uid == sent.Uid && back.Gid == sent.Gid
	f.Permissions = back.Mode == sent.Mode
	f.TimeGranularity = granularity(time.Unix(back.Mtim.Unix()))
	f.Hardlinks = sameFile(p.back("file"), p.back("link"))
	link, _ := os.Readlink(p.back("symlink"))
	f.Symlinks = link == "file"
	elsewhere, _ := os.Readlink(p.back("elsewhere"))
	names := map[string]bool{}
	for _, name := range probeNames {
		_, err := lstat(p.back(name))
		names[name] = err == nil
	}
	f.FoldsNames = !(names["case"] && names["CASE"] && names["dot"] && names["dot."])
	fifo, err := lstat(p.back("fifo"))
	f.Specials = err == nil && fifo.Mode&unix.S_IFMT == unix.S_IFIFO

	for _, missing := range [...]struct {
		have bool
		what string
	}{
		{f.Xattrs, "extended attributes are not kept"},
		{!f.UserXattrs, "of extended attributes only those named user.* are kept"},
		{f.ACLs, "access control lists are not kept"},
		{f.Owners, "owners and groups are not kept"},
		{f.Permissions, "permissions are not kept"},
		{f.Hardlinks, "files with several names become separate files"},
		{f.Symlinks, "symbolic links are left out"},
		{!f.Symlinks || elsewhere == probeElsewhere,
			"symbolic links that lead out of the target are changed by the daemon there; \"use chroot = yes\" or \"munge symlinks = yes\" in its rsyncd.conf keeps them"},
		{f.Specials, "devices, sockets and fifos are left out"},
		{names["case"] && names["CASE"], "upper and lower case are the same in names: of files or directories whose names differ only in them one is kept"},
		{names["dot"] && names["dot."], "dots at the end of names are left out: of files or directories whose names differ only in them one is kept"},
		{f.TimeGranularity <= time.Nanosecond, fmt.Sprintf("times are kept to %v: a rewrite of the same size within that can be missed by a full pass", f.TimeGranularity)},
		{f.DeleteMissingArgs, "this rsync or the one there cannot delete missing arguments: deletions go by listings"},
		{f.Fsync, "the rsync there has no --fsync"},
	} {
		if !missing.have {
			f.GivenUp = append(f.GivenUp, missing.what)
		}
	}
	return nil
}

// granularity returns to what a file system rounded probeTime.
func granularity(got time.Time) time.Duration {
	for _, step := range [...]time.Duration{
		time.Nanosecond, 100 * time.Nanosecond, time.Microsecond, time.Millisecond, 10 * time.Millisecond, time.Second,
	} {
		if got.Equal(probeTime.Truncate(step)) || got.Equal(probeTime.Round(step)) {
			return step
		}
	}
	return 2 * time.Second
}

// readTime gives the empty directory the time of the target.
func (p *probe) readTime(ctx context.Context) error {
	e := p.cleaner("--filter=- *")
	if _, err := e.run(ctx, pass{args: []string{"-t"}, bare: true, back: true}); err != nil {
		return fmt.Errorf("reading its time: %w", err)
	}
	return nil
}

// clean removes the probe's directory on the target, and what a killed run has left of its own, and gives the
// target its time again.
func (p *probe) clean(ctx context.Context) error {
	e := p.cleaner("--filter=+ /"+probePrefix+"*", "--filter=+ /"+probePrefix+"*/**", "--filter=- *")
	_, err := e.run(ctx, pass{args: []string{"-t", modifyWindow(time.Nanosecond), "-r", "--delete"}, bare: true, finds: true})
	if err != nil {
		return fmt.Errorf("removing %s from it: %w", p.name, err)
	}
	return nil
}

// cleaner is an engine from the empty directory to the target itself.
func (p *probe) cleaner(filters ...string) *Engine {
	e := p.engine
	e.Source, e.Target, e.Filters = filepath.Join(p.dir, "empty"), p.target, filters
	return &e
}

// parseVersion returns the word after "version" in what rsync --version says, or nothing.
func parseVersion(out string) string {
	line, _, _ := strings.Cut(out, "\n")
	_, after, _ := strings.Cut(line, " version ")
	word, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	return word
}

func lstat(name string) (*syscall.Stat_t, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	return info.Sys().(*syscall.Stat_t), nil
}

func sameFile(a, b string) bool {
	infoA, errA := os.Lstat(a)
	infoB, errB := os.Lstat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

func hasXattr(path, name string) bool {
	_, err := unix.Lgetxattr(path, name, nil)
	return err == nil
}

// sameXattr reports whether both files have this attribute with the same value.
func sameXattr(a, b, name string) bool {
	valueA, valueB := make([]byte, 256), make([]byte, 256)
	sizeA, errA := unix.Lgetxattr(a, name, valueA)
	sizeB, errB := unix.Lgetxattr(b, name, valueB)
	return errA == nil && errB == nil && string(valueA[:sizeA]) == string(valueB[:sizeB])
}

const aclXattr = "system.posix_acl_access"

// probeACL returns the ACL u::rwx,u:1:r--,g::r-x,m::r-x,o::--x as the kernel's extended attribute has
// it: version 2, then tag, permissions and id of each entry (linux/posix_acl_xattr.h).
func probeACL() []byte {
	const none = 0xffffffff
	acl := []byte{2, 0, 0, 0}
	for _, entry := range [...]struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 7, none}, {0x02, 4, 1}, {0x04, 5, none}, {0x10, 5, none}, {0x20, 1, none}} {
		acl = append(acl,
			byte(entry.tag), byte(entry.tag>>8), byte(entry.perm), byte(entry.perm>>8),
			byte(entry.id), byte(entry.id>>8), byte(entry.id>>16), byte(entry.id>>24))
	}
	return acl
}
