package profile

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

func TestRefuseOption(t *testing.T) {
	for _, option := range []string{
		"-z", "-zW", "-zB1000", "-essh -p 2222", "--rsh=ssh -p 2222", "--rsync-path=sudo rsync", "--bwlimit=10m", "--timeout=60",
		"--no-acls", "--no-A", "--no-D", "--whole-file", "-c", "--compress-choice=zstd", "--password-file=/etc/x=y", "-O", "-4",
	} {
		if wrong := refuseOption(option); wrong != "" {
			t.Errorf("%s is refused: %s", option, wrong)
		}
	}
	for option, want := range map[string]string{
		"-n":                        "-n is refused, rsync would not copy",
		"-zn":                       `"-zn": -n is refused, rsync would not copy`,
		"--delete-after":            "--delete-after is refused, rsince decides what is deleted, and counts it before",
		"--max-delete=5":            "--max-delete is refused, rsince decides what is deleted, and counts it before",
		"--max-delete":              "--max-delete is refused, rsince decides what is deleted, and counts it before",
		"--remove-source-files":     "--remove-source-files is refused, it deletes from the source",
		"--files-from=/x":           "--files-from is refused, rsince decides which names rsync is given and where it looks for more",
		"-0":                        "-0 is refused, rsince decides which names rsync is given and where it looks for more",
		"-x":                        "-x is refused, there is the key one_file_system for it",
		"-f- *.o":                   `"-f- *.o": -f is refused, there are the keys include and exclude for it`,
		"--exclude=*.o":             "--exclude is refused, there are the keys include and exclude for it",
		"-u":                        "-u is refused, names would be left out and count as copied",
		"--size-only":               "--size-only is refused, rsince decides how source and target are compared",
		"-@1":                       `"-@1": -@ is refused, rsince decides how source and target are compared`,
		"--inplace":                 "--inplace is refused, a run that is ended would leave half a file where a whole one was, or files that nobody removes",
		"--backup-dir=/x":           "--backup-dir is refused, the target would hold what the source does not",
		"--chmod=F644":              "--chmod is refused, the copy would differ from the source, or hold what is not part of it",
		"-K":                        "-K is refused, rsync could write outside the target",
		"--log-file=/x":             "--log-file is refused, rsince reads what rsync prints",
		"-H":                        "-H is refused, rsince adds it where it works",
		"-M--fake-super":            `"-M--fake-super": -M is refused, what is for one side only is not looked into`,
		"--delet":                   `"--delet" is not an option of rsync that is known here`,
		"-dry-run":                  `"-dry-run": -d is refused, rsince decides which names rsync is given and where it looks for more`,
		"-zÿ":                       `"-zÿ": "-\xc3" is not an option of rsync that is known here`,
		"--bwlimit":                 `"--bwlimit" lacks its value`,
		"--bwlimit=":                `"--bwlimit=" lacks its value`,
		"-e":                        `"-e" lacks its value`,
		"-ze":                       `"-ze" lacks its value`,
		"--compress=9":              `"--compress" takes no value`,
		"ssh -p 2222":               `"ssh -p 2222" is not an option`,
		"/etc":                      `"/etc" is not an option`,
		"-":                         `"-" is not an option`,
		"--":                        `"--" is not an option`,
		"":                          `"" is not an option`,
		"--rsh=ssh\x00--delete":     `"--rsh=ssh\x00--delete" holds a NUL byte`,
		"--compress\n--delete":      `"--compress\n--delete" is not an option of rsync that is known here`,
		"--delete=":                 "--delete is refused, rsince decides what is deleted, and counts it before",
		"--no-recursive":            "--no-recursive is refused, rsince decides which names rsync is given and where it looks for more",
		"--no-numeric-ids":          "--no-numeric-ids is refused, the copy would differ from the source, or hold what is not part of it",
		"--checksum-choice=none":    "--checksum-choice is refused, rsince decides how source and target are compared",
		"--link-dest=/other/backup": "--link-dest is refused, rsince decides how source and target are compared",
	} {
		if wrong := refuseOption(option); wrong != want {
			t.Errorf("%s:\n got %s\nwant %s", option, wrong, want)
		}
	}
}

// Every option stands in one group only, with or without a value.
func TestOptionsOnce(t *testing.T) {
	seen := make(map[string]bool)
	for _, group := range rsyncOptions {
		for _, option := range strings.Fields(group.names) {
			name := strings.TrimSuffix(option, "=")
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
	}
}

// The installed rsync knows no option that is not in the table, and takes every one that is allowed,
// with a value or without as the table says.
func TestOptionsAgainstRsync(t *testing.T) {
	rsync, err := exec.LookPath("rsync")
	if err != nil {
		t.Skip("rsync is not installed")
	}
	help, err := exec.Command(rsync, "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	options := regexp.MustCompile(`(?m)^(-[^ ]+)(?: \(\*\))?(?:, (-[^ ]+))? `).FindAllStringSubmatch(string(help), -1)
	if len(options) < 120 {
		t.Fatalf("rsync --help has only %d options", len(options))
	}
	for _, match := range options {
		long, value, _ := strings.Cut(strings.TrimSuffix(match[1], ","), "=")
		takesValue := value != ""
		for _, name := range []string{long, match[2]} {
			if name == "" || name == "--no-OPTION" {
				continue
			}
			got, wrong := refuseName(name)
			if strings.Contains(wrong, "known here") {
				t.Error(wrong)
			} else if got != takesValue {
				t.Errorf("%s: takes a value: got %t, want %t", name, got, takesValue)
			}
		}
	}
}

func TestAllowedOptionsWithRsync(t *testing.T) {
	rsync, err := exec.LookPath("rsync")
	if err != nil {
		t.Skip("rsync is not installed")
	}
	values := map[string]string{
		"--compress-choice": "zlib", "--zc": "zlib", "--skip-compress": "gz/jpg", "--max-alloc": "1G", "--sockopts": "SO_KEEPALIVE",
		"--rsync-path": "rsync", "-e": "ssh", "--rsh": "ssh", "--address": "127.0.0.1", "--block-size": "1000", "-B": "1000",
		"--password-file": "/dev/null", "--early-input": "/dev/null",
	}
	source, target := t.TempDir()+"/", t.TempDir()+"/"
	for _, group := range rsyncOptions {
		if group.why != "" {
			continue
		}
		for _, option := range strings.Fields(group.names) {
			name, takesValue := strings.CutSuffix(option, "=")
			if takesValue && values[name] == "" {
				values[name] = "9"
			}
			argument := name + values[name]
			if takesValue && strings.HasPrefix(name, "--") {
				argument = name + "=" + values[name]
			}
			if wrong := refuseOption(argument); wrong != "" {
				t.Errorf("%s is refused: %s", argument, wrong)
			}
			output, err := exec.Command(rsync, "-n", argument, source, target).CombinedOutput()
			refused := err != nil && strings.Contains(string(output), "daemon")
			if refused != forDaemon(argument) || err != nil && !refused {
				t.Errorf("rsync, %s, local target: %v: %s", argument, err, output)
			}
		}
	}
}
