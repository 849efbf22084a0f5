package profile

import (
	"fmt"
	"strings"
)

// Template returns a profile with every key: source and target as given, the others commented out at
// their defaults. Read says what is wrong with source and target; names that are not UTF-8 are among
// it, for they cannot be in a TOML file.
func Template(source, target string) []byte {
	return fmt.Appendf(nil, template, quote(source), quote(target))
}

// quote returns s as a TOML string, byte for byte: bytes that are not UTF-8 stay as they are, and TOML
// refuses them.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, "\\u%04x", c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

const template = `# What rsince copies, where to, and how. A line that begins with "#" and no blank after it is a
# default: take away the "#" to change it.

# A directory of this machine; its contents are copied.
source = %s
# Where to: /path, host:/path, user@host:/path or rsync://host/module/path.
target = %s

# Patterns of names that are left out: rsync's, with rsync's meaning. On the target they are kept.
#exclude = []
# Patterns of names that are copied all the same; they are tried before those of exclude.
#include = []
# Leave out what is mounted below the source.
#one_file_system = true
# What copies: "auto" or "rsync".
#engine = "auto"
# More options for rsync, each with its value in one string: ["-z", "--rsh=ssh -p 2222"].
#rsync_options = []
# A copier without any progress for so long is ended, and the next run tries again.
#stall = "10m"
# Compare everything at least this often, or "never".
#full_every = "7d"
# A run that would delete more than this on the target is refused: a number, a share, or "none".
#max_delete = "25%%"

[watch]
# How changes are noticed: "auto", "fanotify", "inotify" or "none".
#backend = "auto"

[snapshot]
# Freeze the source during a run: "none" is all that this version has.
#kind = "none"
# Room for what changes meanwhile: a share of the origin, or a size such as "4GiB".
#size = "10%%"

[logs]
# How many runs of this profile are remembered.
#keep_runs = 10000

[priority]
# As for nice(1), from -20 to 19.
#nice = 10
# As for ionice(1): "idle", "best-effort", or "none" to leave it as it is.
#io = "idle"
`
