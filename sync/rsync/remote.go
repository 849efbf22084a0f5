package rsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// ErrUnknowable is returned for what cannot be asked of an rsync daemon, or of a local target here.
var ErrUnknowable = errors.New("only a target reached by a remote shell can be asked")

// SyncRemote makes what was copied durable on the other machine, by sync(1) -f of the target
// there (coreutils 8.24).
func (e *Engine) SyncRemote(ctx context.Context) error {
	_, err := e.ask(ctx, `sync -f "$1"`)
	if err != nil {
		return fmt.Errorf("syncing %s: %w", e.Target, err)
	}
	return nil
}

// An Identity tells a target directory from another one that came to be in its place.
type Identity struct {
	UUID  string    // of the file system; empty where findmnt(8) and blkid(8) do not know it
	Inode uint64    // of the directory
	Birth time.Time // of the directory; zero where the file system does not keep it
}

// RemoteIdentity asks the other machine for the identity of the target directory. The error is
// fs.ErrNotExist when there is no such directory.
func (e *Engine) RemoteIdentity(ctx context.Context) (Identity, error) {
	out, err := e.ask(ctx, `test -d "$1" || { echo absent; exit 0; }
PATH=$PATH:/usr/sbin:/sbin
cd "$1" && stat -c '%i %w' . && {
	uuid=$(findmnt -n -o UUID -T .)
	[ -n "$uuid" ] || uuid=$(blkid -o value -s UUID "$(findmnt -n -o SOURCE -T .)")
	echo "$uuid"
} 2>/dev/null`)
	if err != nil {
		return Identity{}, fmt.Errorf("asking for the identity of %s: %w", e.Target, err)
	}
	if strings.TrimSpace(out) == "absent" {
		return Identity{}, fmt.Errorf("%s: %w", e.Target, fs.ErrNotExist)
	}
	id, err := parseIdentity(out)
	if err != nil {
		return Identity{}, fmt.Errorf("asking for the identity of %s: %w", e.Target, err)
	}
	return id, nil
}

// TargetEmpty reports whether the target holds nothing, or only what mkfs makes. An rsync daemon can be
// asked nothing else.
func (e *Engine) TargetEmpty(ctx context.Context) (bool, error) {
	nowhere, release, err := scratchDir()
	if err != nil {
		return false, err
	}
	defer release()
	look := e.From(nowhere)
	look.Filters, look.DryRun = nil, true
	empty := true
	look.Items = func(item Item) {
		empty = empty && (item.Path == "." || item.Path == "lost+found")
	}
	if _, err := look.run(ctx, pass{args: []string{"--no-r", "--dirs"}, bare: true, back: true}); err != nil {
		return false, fmt.Errorf("looking whether %s is empty: %w", e.Target, err)
	}
	return empty, nil
}

// parseIdentity reads "INODE BIRTH\nUUID\n", where BIRTH is "-" or what stat(1) makes of a time.
func parseIdentity(out string) (Identity, error) {
	first, second, _ := strings.Cut(out, "\n")
	inode, birth, _ := strings.Cut(first, " ")
	n, err := strconv.ParseUint(inode, 10, 64)
	if err != nil {
		return Identity{}, fmt.Errorf("stat said %q", first)
	}
	id := Identity{UUID: strings.TrimSpace(second), Inode: n}
	if birth != "-" && birth != "" {
		id.Birth, err = time.Parse("2006-01-02 15:04:05.999999999 -0700", birth)
		if err != nil {
			return Identity{}, fmt.Errorf("stat said %q: %w", first, err)
		}
	}
	return id, nil
}

// ask runs a shell script on the other machine with the target's path as $1 and returns its output.
func (e *Engine) ask(ctx context.Context, script string) (string, error) {
	host, path, ok := splitHost(e.Target)
	if !ok || !overShell(e.Target) {
		return "", ErrUnknowable
	}
	host = strings.NewReplacer("[", "", "]", "").Replace(host)
	command := quote([]string{"sh", "-c", script, "rsince"}) + " " + quotePath(path)
	args := append(e.shellWords(), host, command)

	cmd := exec.Command(args[0], args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_, err := e.process(ctx, cmd)
	if exit, ok := err.(*exec.ExitError); ok {
		err = &ExitError{
			Code:    exit.ExitCode(),
			Command: quote(args),
			Stderr:  strings.TrimSpace(stderr.String()),
			program: args[0],
		}
	}
	return stdout.String(), err
}

// quotePath quotes a path for the remote shell, which is to expand a tilde as it does for rsync.
func quotePath(path string) string {
	if path == "" {
		return "."
	}
	if strings.HasPrefix(path, "~") {
		home, rest, _ := strings.Cut(path, "/")
		if quoteWord(home[1:]) == home[1:] || home == "~" {
			return home + "/" + strings.TrimSuffix(quoteWord(rest), "''")
		}
	}
	if strings.HasPrefix(path, "-") {
		path = "./" + path
	}
	return quoteWord(path)
}

// shellWords returns the remote shell command that rsync will use: --rsh, RSYNC_RSH, ssh.
func (e *Engine) shellWords() []string {
	shell := ""
	for i, option := range e.Options {
		value, long := strings.CutPrefix(option, "--rsh=")
		if !long {
			value, long = strings.CutPrefix(option, "-e")
		}
		switch {
		case long && value != "":
			shell = value
		case (option == "-e" || option == "--rsh") && i+1 < len(e.Options):
			shell = e.Options[i+1]
		}
	}
	if shell == "" {
		shell = os.Getenv("RSYNC_RSH")
	}
	if shell == "" {
		shell = defaultShell
	}
	return splitWords(shell)
}

// splitWords divides a remote shell command as rsync does: at spaces outside of quotation marks, of which
// two in a row inside stand for one (rsync(1), --rsh).
func splitWords(s string) []string {
	var words []string
	var word strings.Builder
	started := false
	var mark byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case mark != 0 && c == mark && i+1 < len(s) && s[i+1] == mark:
			word.WriteByte(c)
			i++
		case mark != 0 && c == mark:
			mark = 0
		case mark == 0 && (c == '\'' || c == '"'):
			mark, started = c, true
		case mark == 0 && c == ' ':
			if started {
				words = append(words, word.String())
				word.Reset()
				started = false
			}
		default:
			word.WriteByte(c)
			started = true
		}
	}
	if started {
		words = append(words, word.String())
	}
	return words
}
