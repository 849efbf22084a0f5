package profile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// write puts a profile into a directory of its own and returns the file.
func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const good = "source = \"/no/home\"\ntarget = \"/no/backup\"\n"

func TestRead(t *testing.T) {
	file := write(t, "home.toml", `
source = "/no//home/"
target = "me@[::1]:/no/backup/."
exclude = ["*.tmp", "/*/.cache/"]
include = ["keep.tmp"]
one_file_system = false
engine = "rsync"
rsync_options = ["-z", "--bwlimit=10m"]
stall = "1h30m"
full_every = "never"
max_delete = 500
watch = { backend = "inotify" }
snapshot.size = "4GiB"
logs.keep_runs = 7
[priority]
nice = -5
io = "best-effort"
`)
	got, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Filter.Excluded("a/b.tmp", false) || got.Filter.Excluded("a/keep.tmp", false) {
		t.Error("Filter is not made of include and exclude")
	}
	want := &Profile{
		Name: "home", File: file, Source: "/no/home",
		Target:  Target{Host: "me@::1", Path: "/no/backup"},
		Include: []string{"keep.tmp"}, Exclude: []string{"*.tmp", "/*/.cache/"}, Filter: got.Filter,
		Engine: "rsync", RsyncOptions: []string{"-z", "--bwlimit=10m"}, Stall: 90 * time.Minute,
		MaxDelete: Count(500), Watch: Watch{"inotify"}, Snapshot: Snapshot{"none", "4GiB"},
		Logs: Logs{7}, Priority: Priority{-5, "best-effort"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
}

func TestReadWrong(t *testing.T) {
	const (
		paths    = `allowed: an absolute path on this machine, such as "/home"`
		targets  = `allowed: "/path", "host:/path", "user@host:/path" or "rsync://host/module/path"`
		patterns = `allowed: a list of rsync's patterns, such as ["*.tmp", "/cache/"]`
		options  = `allowed: a list of rsync's options, each with its value in the same string, such as ["-z", "--rsh=ssh -p 2222"]`
		stall    = `allowed: a duration of at least a second, such as "10m" or "1h30m"`
		period   = `allowed: a duration of at least a second, such as "7d" or "1d12h", or "never"`
		limit    = `allowed: a number, "25%" of what the target holds, or "none"`
		size     = `allowed: "1%" to "100%" of the origin, or a size with its unit, such as "4GiB"`
		all      = `allowed: source, target, include, exclude, one_file_system, engine, rsync_options, stall, full_every, max_delete, ` +
			`watch.backend, snapshot.kind, snapshot.size, logs.keep_runs, priority.nice, priority.io`
	)
	for _, test := range []struct{ text, want string }{
		// missing and wrong paths
		{"", "1: source: is missing; " + paths + "\n1: target: is missing; " + targets},
		{"target = '/no/b'\nsource = ''", `2: source: the path is empty; ` + paths},
		{"target = '/no/b'\nsource = 'home'", `2: source: "home" is not an absolute path; ` + paths},
		{"target = '/no/b'\nsource = '~/x'", `2: source: "~/x" is not expanded; ` + paths},
		{"target = '/no/b'\nsource = '/a/../b'", `2: source: "/a/../b" holds ".."; ` + paths},
		{"target = '/no/b'\nsource = \"/a\\u0000\"", `2: source: "/a\x00" holds a NUL byte; ` + paths},
		{"source = '/no/a'\ntarget = 5", `2: target: is an integer; ` + targets},
		{"source = '/no/a'\ntarget = 'host:dir'", `2: target: the path after "host:" depends on who logs in, it has to be absolute; ` + targets},
		{"source = '/no/a'\ntarget = 'host:~/dir'", `2: target: the path after "host:" depends on who logs in, it has to be absolute; ` + targets},
		{"source = '/no/a'\ntarget = 'host::mod/dir'", `2: target: "host::mod/dir" has two colons, a daemon is written as rsync://host/module/path; ` + targets},
		{"source = '/no/a'\ntarget = 'ssh://host/dir'", `2: target: "ssh://host/dir" is a URL that rsync does not know; ` + targets},
		{"source = '/no/a'\ntarget = '-oProxyCommand=x:/dir'", `2: target: "-oProxyCommand=x" begins with "-"; ` + targets},
		// source and target
		{"source = '/no/a'\ntarget = '/no/a/'", `2: target: "/no/a" is the source; allowed: another directory`},
		{"source = '/no/a'\ntarget = '/no'", `2: target: "/no" holds the source "/no/a"; allowed: a directory outside the source`},
		{"source = '/no'\ntarget = '/no/a/b'", `2: target: "/no/a/b" is inside the source "/no"; allowed: a directory outside the source, or exclude "/a/b/"`},
		{"source = '/no'\nexclude = ['/a/c/']\ntarget = '/no/a/b'", `3: target: "/no/a/b" is inside the source "/no"; allowed: a directory outside the source, or exclude "/a/b/"`},
		{"source = '/no'\ntarget = '/no/b[1]'", `2: target: "/no/b[1]" is inside the source "/no"; allowed: a directory outside the source, or exclude "/b\\[1]/"`},
		{"source = '/'\ntarget = '/no/a'\n[watch]\nbackend = 1",
			"2: target: \"/no/a\" is inside the source \"/\"; allowed: a directory outside the source, or exclude \"/no/a/\"\n" +
				`4: watch.backend: is an integer; allowed: "auto", "fanotify", "inotify" or "none"`},
		// types
		{good + "one_file_system = 'yes'", `3: one_file_system: is a string; allowed: true or false`},
		{good + "exclude = '*.tmp'", `3: exclude: is a string; ` + patterns},
		{good + "exclude = [\n'*.tmp',\n3\n]", `3: exclude: holds an integer; ` + patterns},
		{good + "stall = 600", `3: stall: is an integer; ` + stall},
		{good + "stall = 07:32:00", `3: stall: is a date or time; ` + stall},
		{good + "max_delete = 2.5", `3: max_delete: is a float; ` + limit},
		{good + "engine = ['auto']", `3: engine: is an array; allowed: "auto" or "rsync"`},
		{good + "engine.kind = 'auto'", `3: engine: is a table; allowed: "auto" or "rsync"`},
		{good + "watch = 'auto'", `3: watch: is a string; allowed: a table, [watch]`},
		{good + "\n[[watch]]\nbackend = 'auto'", `4: watch: is an array of tables; allowed: a table, [watch]`},
		// values
		{good + "include = ['', 'x']", `3: include: "": the pattern is empty; ` + patterns},
		{good + "exclude = ['x', '//']", `3: exclude: "//": the pattern has only slashes and matches nothing; ` + patterns},
		{good + "engine = 'fast'", `3: engine: "fast" is not known; allowed: "auto" or "rsync"`},
		{good + "engine = ''", `3: engine: "" is not known; allowed: "auto" or "rsync"`},
		{good + "engine = 'builtin'", `3: engine: "builtin" is not available in this version; allowed: "auto" or "rsync"`},
		{good + "stall = ''", `3: stall: the duration is empty; ` + stall},
		{good + "stall = '10'", `3: stall: "10" is not a duration; ` + stall},
		{good + "stall = 'never'", `3: stall: "never" is not a duration; ` + stall},
		{good + "stall = '-10m'", `3: stall: "-10m" is not a duration; ` + stall},
		{good + "stall = '999ms'", `3: stall: 999ms is too short; ` + stall},
		{good + "stall = '0s'", `3: stall: 0s is too short; ` + stall},
		{good + "full_every = '0d'", `3: full_every: "0d" would be all the time; ` + period},
		{good + "full_every = '5ms'", `3: full_every: 5ms is too short; ` + period},
		{good + "full_every = '99999999w'", `3: full_every: "99999999w" is not a duration; ` + period},
		{good + "max_delete = -1", `3: max_delete: -1 is negative; ` + limit},
		{good + "max_delete = 99999999999", `3: max_delete: 99999999999 is out of range; ` + limit},
		{good + "max_delete = '101%'", `3: max_delete: "101%" is more than everything; ` + limit},
		{good + "max_delete = 'few'", `3: max_delete: "few" is neither a number, nor a percentage, nor "none"; ` + limit},
		{good + "watch.backend = 'magic'", `3: watch.backend: "magic" is not known; allowed: "auto", "fanotify", "inotify" or "none"`},
		{good + "[snapshot]\nkind = 'lvm'", `4: snapshot.kind: "lvm" is not available in this version; allowed: "none"`},
		{good + "[snapshot]\nsize = '0%'", `4: snapshot.size: "0%" is not a percentage from 1 to 100; ` + size},
		{good + "[snapshot]\nsize = '4'", `4: snapshot.size: "4" is not a size with its unit; ` + size},
		{good + "[snapshot]\nsize = ''", `4: snapshot.size: "" is not a size with its unit; ` + size},
		{good + "[logs]\nkeep_runs = 0", `4: logs.keep_runs: 0 is out of range; allowed: a number of at least 1`},
		{good + "[priority]\nnice = 20\nio = 'realtime'",
			"4: priority.nice: 20 is out of range; allowed: a number from -20 to 19\n" +
				`5: priority.io: "realtime" is not known; allowed: "idle", "best-effort" or "none"`},
		{good + "rsync_options = ['-z', '-avn', 'ssh']",
			`3: rsync_options: "-avn": -a is refused, rsince decides which names rsync is given and where it looks for more; ` + options + "\n" +
				`3: rsync_options: "ssh" is not an option; ` + options},
		{good + "rsync_options = ['--contimeout=5']", `3: rsync_options: "--contimeout=5" works with an rsync daemon as target only; ` + options},
		// unknown keys
		{good + "exlude = []", `3: exlude: is not a key of a profile; did you mean exclude?`},
		{good + "full-every = '1d'", `3: full-every: is not a key of a profile; did you mean full_every?`},
		{good + "backend = 'auto'", `3: backend: is not a key of a profile; did you mean watch.backend, below [watch]?`},
		{good + "[watch]\nstall = '1d'", `4: watch.stall: is not a key of a profile; stall belongs above the first [table]`},
		{good + "[log]\nkeep_run = 1", `3: log: is not a key of a profile; did you mean [logs]?`},
		{good + "[logs]\nkeep_run = 1", `4: logs.keep_run: is not a key of a profile; did you mean logs.keep_runs?`},
		{good + "\"a.b\" = 1\nplugins.x.y = 2", `3: "a.b": is not a key of a profile; ` + all + "\n4: plugins: is not a key of a profile; " + all},
		// not TOML
		{good + "stall = 10m", "3: expected a top-level item to end with a newline, comment, or EOF, but got 'm' instead; allowed: TOML, see https://toml.io"},
		{good + "stall = '10m'\nstall = '20m'", "4: stall: Key 'stall' has already been defined; allowed: TOML, see https://toml.io"},
		{"source = \"/no\xff\"", "1: source: invalid UTF-8 byte: 0xff; allowed: TOML, see https://toml.io"},
	} {
		file := write(t, "home.toml", test.text)
		_, err := Read(file)
		if err == nil {
			t.Errorf("%q: no error", test.text)
			continue
		}
		want := file + ":" + strings.ReplaceAll(test.want, "\n", "\n"+file+":")
		if err.Error() != want {
			t.Errorf("%q:\n got %s\nwant %s", test.text, err, want)
		}
		var wrong *Error
		if !errors.As(err, &wrong) || wrong.File != file || wrong.Line == 0 {
			t.Errorf("%q: no Error with file and line in %#v", test.text, err)
		}
	}
}

func TestReadFileName(t *testing.T) {
	for name, want := range map[string]string{
		"a b.toml":                        `the name holds ' '`,
		"ä.toml":                          `the name holds 'ä'`,
		".a.toml":                         `the name begins with '.'`,
		"-a.toml":                         `the name begins with '-'`,
		".toml":                           `the name is empty`,
		strings.Repeat("a", 65) + ".toml": `the name has 65 bytes, 64 are allowed`,
	} {
		file := write(t, name, good)
		want = file + ":1: file name: " + want + `; allowed: up to 64 letters, digits, ".", "_", "-", the first no "." or "-"`
		if _, err := Read(file); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
	for _, name := range []string{"a", "A.b-c_9", "_", strings.Repeat("z", 64)} {
		if p, err := Read(write(t, name+".toml", good)); err != nil || p.Name != name {
			t.Errorf("%s: got %+v, %v", name, p, err)
		}
	}
	if _, err := Read("/no/x.toml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestNestedThroughSymlinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "home/me"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "home"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ source, target, want string }{
		{"home", "link", "is the source"},
		{"link", "home", "is the source"},
		{"home", "link/not/there", `exclude "/not/there/"`},
		{"link/me", "home", "holds the source"},
		{"home/me", "link/you", ""},
		{"home", "home2", ""},
	} {
		p := Default(filepath.Join(dir, test.source), Target{Path: filepath.Join(dir, test.target)})
		err := p.Validate()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s to %s: got %v, want %q", test.source, test.target, err, test.want)
		}
	}
	p := Default(filepath.Join(dir, "link"), Target{Path: filepath.Join(dir, "home/backup/new")})
	p.Exclude = []string{"/backup/"}
	p.Target.Path += "[1]"
	if err := p.Validate(); err != nil {
		t.Errorf("an excluded target below the source: %v", err)
	}
}

func TestValidate(t *testing.T) {
	p := Default("/no/a/", Target{Host: "h", Path: "b"})
	p.Stall = -1
	p.Include = []string{"/"}
	want := `include: "/": the pattern has only slashes and matches nothing; allowed: a list of rsync's patterns, such as ["*.tmp", "/cache/"]
source: "/no/a/" is not clean; allowed: an absolute path on this machine, such as "/home"`
	err := p.Validate()
	for _, line := range strings.Split(want, "\n") {
		if err == nil || !strings.Contains(err.Error()+"\n", line+"\n") {
			t.Errorf("got %v, want it to hold %s", err, line)
		}
	}
	for _, target := range []Target{{}, {Path: "a"}, {Path: "/a/"}, {Host: "h", Path: "b"}, {Host: "h", Daemon: true}, {Host: "h", Daemon: true, Path: "/m"},
		{Path: "/a", Port: 3}, {Host: "h:x", Path: "/a"}, {Path: "/a", Daemon: true}} {
		if err := Default("/no/a", target).Validate(); err == nil {
			t.Errorf("%#v is accepted", target)
		}
	}
}

func TestFingerprint(t *testing.T) {
	base := func() *Profile { return Default("/no/a", Target{Path: "/no/b"}) }
	print := base().Fingerprint()
	for name, change := range map[string]func(*Profile){
		"source":          func(p *Profile) { p.Source = "/no/c" },
		"target":          func(p *Profile) { p.Target.Path = "/no/c" },
		"include":         func(p *Profile) { p.Include = []string{"x"} },
		"exclude":         func(p *Profile) { p.Exclude = []string{"x"} },
		"one_file_system": func(p *Profile) { p.OneFileSystem = false },
		"rsync_options":   func(p *Profile) { p.RsyncOptions = []string{"-z"} },
		"two patterns":    func(p *Profile) { p.Exclude = []string{"x", "y"} },
		"one pattern":     func(p *Profile) { p.Exclude = []string{`x" "y`} },
		"another byte":    func(p *Profile) { p.Source = "/no/\xff" },
		"another yet":     func(p *Profile) { p.Source = "/no/\xfe" },
	} {
		p := base()
		change(p)
		if p.Fingerprint() == print {
			t.Errorf("%s: the fingerprint stays", name)
		}
	}
	same := base()
	same.Name, same.File, same.Stall, same.Exclude = "x", "y", 1, []string{}
	if same.Fingerprint() != print {
		t.Error("the fingerprint depends on what the target does not")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(good))
	f.Add(Template("/no/a", "rsync://u@[::1]:1/m/p"))
	f.Add([]byte("source = '/'\ntarget = 'a@b:/c'\nwatch = {backend = 'none'}\nexclude = [\"\"\"\na\"\"\"]\nmax_delete = '3%'"))
	f.Add([]byte("a.b.c = 1\n[[watch]]\n[d.\"e\\u0000\"]\n[watch.backend]\nx = [{y = 1}]"))
	f.Add([]byte("stall = '1.5d1w'\nsnapshot = {size = '4 GiB'}\nrsync_options = ['-zB7', '--rsh=x']"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p := Default("", Target{})
		p.Name, p.File = "home", "home.toml"
		_, problems := p.decode(string(text))
		for _, problem := range problems {
			if problem.Line < 1 || problem.Wrong == "" {
				t.Fatalf("%+v says too little", problem)
			}
		}
		if len(problems) > 0 {
			return
		}
		again := *p
		if err := again.Validate(); err != nil {
			t.Fatalf("accepted, then refused: %v", err)
		}
		if again.Fingerprint() != p.Fingerprint() || !reflect.DeepEqual(again.Filter, p.Filter) {
			t.Fatal("Validate changed the profile")
		}
	})
}
