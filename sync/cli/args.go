package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"rsince/sync/profile"
)

// ends reads a source and a target from the command line. They are valid together.
func ends(source, target string) (*profile.Profile, error) {
	if _, remote := host(source); remote {
		return nil, &usageError{fmt.Errorf("the source has to be local: %q is on another machine; allowed: a directory of this one (./a:b if its name holds a colon)", source)}
	}
	source, err := absolute(source)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(source); err == nil && !info.IsDir() {
		return nil, &usageError{fmt.Errorf("the source %q is no directory; allowed: a directory, whose contents are copied", source)}
	}
	if _, remote := host(target); !remote {
		if target, err = absolute(target); err != nil {
			return nil, err
		}
	}
	to, err := profile.ParseTarget(target)
	if err != nil {
		return nil, &usageError{err}
	}
	p := profile.Default(source, to)
	if err := p.Validate(); err != nil {
		return nil, &usageError{err}
	}
	return p, nil
}

// host is what stands before the first colon, if no slash does: rsync's mark of another machine.
func host(arg string) (name string, ok bool) {
	name, _, ok = strings.Cut(arg, ":")
	return name, ok && !strings.Contains(name, "/")
}

// absolute makes an absolute path of what was given. A tilde that the shell left as it is was not meant
// as a name.
func absolute(arg string) (string, error) {
	if strings.HasPrefix(arg, "~") {
		return "", &usageError{fmt.Errorf("%q was not expanded by the shell; allowed: the whole path, or ./%s", arg, arg)}
	}
	return filepath.Abs(arg)
}
