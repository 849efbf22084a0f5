package cli

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
)

// dirs is where things lie.
type dirs struct {
	config string
	state  string
	logs   string
	socket string
}

// findDirs applies the flags to the defaults: the system's directories for root, the XDG base
// directories for everybody else. A state directory given by hand holds everything.
func findDirs(config, state string) (d dirs, err error) {
	if os.Geteuid() == 0 {
		d = dirs{"/etc/rsince", "/var/lib/rsince", "/var/log/rsince", "/run/rsince/watch.sock"}
	} else if config == "" || state == "" {
		if d, err = xdgDirs(); err != nil {
			return d, err
		}
	}
	if config != "" {
		if d.config, err = filepath.Abs(config); err != nil {
			return d, err
		}
	}
	if state != "" {
		if d.state, err = filepath.Abs(state); err != nil {
			return d, err
		}
		d.logs, d.socket = filepath.Join(d.state, "logs"), filepath.Join(d.state, "watch.sock")
	}
	return d, nil
}

func xdgDirs() (dirs, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return dirs{}, fmt.Errorf("finding the state directory: %w", err)
	}
	state := filepath.Join(cmp.Or(os.Getenv("XDG_STATE_HOME"), filepath.Join(home, ".local/state")), "rsince")
	return dirs{
		config: filepath.Join(cmp.Or(os.Getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), "rsince"),
		state:  state,
		logs:   filepath.Join(state, "logs"),
		socket: filepath.Join(cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), state), "rsince", "watch.sock"),
	}, nil
}

// own lists the directories that are never watched or copied.
func (d dirs) own() []string {
	return []string{d.state, d.logs, filepath.Dir(d.socket)}
}

// profile is where the journal and the memory of a profile lie.
func (d dirs) profile(name string) string { return filepath.Join(d.state, "profiles", name) }

// profileFile is the file of the profile with this name.
func (d dirs) profileFile(name string) string { return filepath.Join(d.config, name+".toml") }

// oneShot is the same for two directories without a profile.
func (d dirs) oneShot(key string) string { return filepath.Join(d.state, "oneshots", key) }

func (d dirs) locks() string { return filepath.Join(d.state, "locks") }

// cookies is where the inotify backend makes files of which it awaits to hear.
func (d dirs) cookies() string { return filepath.Join(d.state, "cookies") }
