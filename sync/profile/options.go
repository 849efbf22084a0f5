package profile

import (
	"fmt"
	"slices"
	"strings"
)

// options are options of rsync that are alike in what they do to the promise that the copy equals the
// source and that nothing is forgotten.
type options struct {
	why string // they are refused; empty: they are allowed
	// names are with their dashes and with "=" when they take a value, and divided by blanks.
	names string
}

// rsyncOptions are the options of rsync 3.5.0. One that is not here is refused: rsync knows no
// abbreviations, and what is new may break anything.
var rsyncOptions = []options{
	{"", // the way to the target
		"-e= --rsh= --rsync-path= --blocking-io --no-blocking-io -s --secluded-args --protect-args -4 --ipv4 -6 --ipv6 " +
			"--address= --port= --sockopts= --early-input= --no-motd --timeout= --no-timeout --no-contimeout --bwlimit= --no-bwlimit " +
			"-z --compress --old-compress --new-compress --no-compress --no-z --compress-choice= --zc= " +
			"--compress-level= --zl= --compress-threads= --zt= --skip-compress="},
	{"", // the way to a daemon, see forDaemon
		"--contimeout= --password-file="},
	{"", // the same copy made in another way, or with more care
		"-W --whole-file --no-whole-file --no-W -B= --block-size= -y --fuzzy --no-fuzzy --no-y -c --checksum --fsync " +
			"-S --sparse --no-sparse --no-S --preallocate --max-alloc= --inc-recursive --i-r --no-inc-recursive --no-i-r " +
			"--open-noatime --no-open-noatime -U --atimes --no-atimes --no-U -E --executability --super"},
	{"", // less than the source, knowingly: for a target that cannot or shall not keep it; contents and names are not touched
		"--no-acls --no-A --no-xattrs --no-X --no-owner --no-o --no-group --no-g --no-perms --no-p " +
			"--no-devices --no-specials --no-D --no-hard-links --no-H " +
			"-O --omit-dir-times --no-omit-dir-times --no-O -J --omit-link-times --no-omit-link-times --no-J"},

	{"rsync would not copy",
		"-n --dry-run --list-only --write-batch= --only-write-batch= --read-batch= -V --version --help " +
			"--daemon --server --sender --config= --dparam= --detach --no-detach"},
	{"it deletes from the source",
		"--remove-source-files --remove-sent-files"},
	{"rsince decides what is deleted, and counts it before",
		"--del --delete --delete-before --delete-during --delete-delay --delete-after --delete-excluded " +
			"--delete-missing-args --ignore-missing-args --max-delete= --force --no-force --ignore-errors --no-ignore-errors"},
	{"rsince decides which names rsync is given and where it looks for more",
		"--files-from= -0 --from0 --no-from0 -a --archive -r --recursive --no-recursive --no-r " +
			"-R --relative --no-relative --no-R --implied-dirs --no-implied-dirs --i-d --no-i-d " +
			"-d --dirs --no-dirs --no-d --old-dirs --old-d"},
	{"there is the key one_file_system for it",
		"-x --one-file-system --no-one-file-system --no-x"},
	{"there are the keys include and exclude for it",
		"-f= --filter= -F --include= --include-from= --exclude= --exclude-from= -C --cvs-exclude"},
	{"names would be left out and count as copied",
		"--existing --ignore-non-existing --ignore-existing -u --update --max-size= --min-size= " +
			"-m --prune-empty-dirs --no-prune-empty-dirs --no-m --no-links --no-l --safe-links --compare-dest= " +
			"--stop-after= --time-limit= --stop-at="},
	{"rsince decides how source and target are compared",
		"--size-only -I --ignore-times -@= --modify-window= --no-checksum --no-c --checksum-choice= --cc= " +
			"--checksum-seed= --no-times --no-t --copy-dest= --link-dest="},
	{"a run that is ended would leave half a file where a whole one was, or files that nobody removes",
		"--inplace --no-inplace --append --append-verify --no-append --partial --no-partial --partial-dir= -P " +
			"--delay-updates --no-delay-updates -T= --temp-dir="},
	{"the target would hold what the source does not",
		"-b --backup --no-backup --backup-dir= --suffix="},
	{"the copy would differ from the source, or hold what is not part of it",
		"--chmod= --chown= --usermap= --groupmap= --no-numeric-ids --fake-super --no-super --copy-as= " +
			"-L --copy-links --copy-unsafe-links -k --copy-dirlinks --copy-devices " +
			"--munge-links --no-munge-links --iconv= --no-iconv --protocol= -N --crtimes --no-crtimes --no-N"},
	{"rsync could write outside the target",
		"-K --keep-dirlinks --write-devices --no-write-devices --insecure-links --no-insecure-links " +
			"--mkpath --no-mkpath --trust-sender --old-args"},
	{"rsince reads what rsync prints",
		"-v --verbose --no-verbose --no-v -q --quiet --info= --debug= --stderr= --msgs2stderr --no-msgs2stderr --motd " +
			"--stats --progress --no-progress -i --itemize-changes --no-itemize-changes --no-i " +
			"--out-format= --log-format= --log-file= --log-file-format= -8 --8-bit-output --no-8-bit-output --no-8 " +
			"-h --human-readable --no-human-readable --no-h --outbuf="},
	{"rsince adds it where it works",
		"-l --links -p --perms -t --times -o --owner -g --group -D --devices --specials -H --hard-links " +
			"-A --acls -X --xattrs --numeric-ids --confine-root= --no-old-args --no-secluded-args --no-protect-args --no-s"},
	{"what is for one side only is not looked into",
		"-M= --remote-option= --drop-D --no-drop-D"},
}

// refuseOption says why argument cannot be one of rsync_options; empty: it can. A value has to be in
// the same argument, or rsync would take the next one for it.
func refuseOption(argument string) string {
	switch {
	case strings.Contains(argument, "\x00"):
		return fmt.Sprintf("%q holds a NUL byte", argument)
	case argument == "-" || argument == "--" || !strings.HasPrefix(argument, "-"):
		return fmt.Sprintf("%q is not an option", argument)
	case !strings.HasPrefix(argument, "--"):
		return refuseBundle(argument)
	}
	name, value, hasValue := strings.Cut(argument, "=")
	takesValue, wrong := refuseName(name)
	switch {
	case wrong != "":
		return wrong
	case takesValue && value == "":
		return fmt.Sprintf("%q lacks its value", argument)
	case !takesValue && hasValue:
		return fmt.Sprintf("%q takes no value", name)
	}
	return ""
}

// forDaemon reports whether rsync takes an option for a daemon only and fails with any other target.
func forDaemon(argument string) bool {
	name, _, _ := strings.Cut(argument, "=")
	return name == "--contimeout" || name == "--password-file"
}

// refuseBundle is refuseOption for short options in one argument, of which the last may have a value:
// "-zB1000".
func refuseBundle(argument string) string {
	for i := 1; i < len(argument); i++ {
		takesValue, wrong := refuseName("-" + argument[i:i+1])
		switch {
		case wrong != "" && len(argument) > 2:
			return fmt.Sprintf("%q: %s", argument, wrong)
		case wrong != "":
			return wrong
		case takesValue && i+1 == len(argument):
			return fmt.Sprintf("%q lacks its value", argument)
		case takesValue:
			return ""
		}
	}
	return ""
}

// refuseName says whether the option with this name takes a value, and why it is refused.
func refuseName(name string) (takesValue bool, wrong string) {
	for _, group := range rsyncOptions {
		names := strings.Fields(group.names)
		takesValue = slices.Contains(names, name+"=")
		if !takesValue && !slices.Contains(names, name) {
			continue
		}
		if group.why != "" {
			return takesValue, fmt.Sprintf("%s is refused, %s", name, group.why)
		}
		return takesValue, ""
	}
	return false, fmt.Sprintf("%q is not an option of rsync that is known here", name)
}
