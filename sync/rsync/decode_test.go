package rsync

import (
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseItem(t *testing.T) {
	for line, want := range map[string]Item{
		"=>f+++++++++ 45 2 a/f":            {Create, "a/f", false, 2, ">f+++++++++"},
		"=<f.st...... 10 200 a b ":         {Update, "a b ", false, 10, "<f.st......"},
		"=cd+++++++++ 0 4096 d/":           {Create, "d", true, 0, "cd+++++++++"},
		"=.d..t...... 0 4096 ./":           {Update, ".", true, 0, ".d..t......"},
		`=*deleting   0 0 \#012\\#134#012`: {Delete, "\n\\" + `\#012`, false, 0, "*deleting  "},
		"=hf          0 4 link":            {Update, "link", false, 0, "hf         "},
	} {
		if got, ok := parseItem(line, false); !ok || got != want {
			t.Errorf("%s: %+v, %v", line, got, ok)
		}
	}
	for _, line := range []string{"", "=", "deleting x", "=>f+++++++++ 45 2", "=>f+++++++++ 45 x a", "=>f+++++++++ 45 2 ", "created directory x"} {
		if got, ok := parseItem(line, false); ok {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

func TestParseMessage(t *testing.T) {
	for line, want := range map[string]message{
		`rsync: [sender] send_files failed to open "/s/x": Permission denied (13)`:                     {kind: unreadMessage, names: []string{"/s/x"}, errno: syscall.EACCES},
		`rsync: [sender] send_files failed to open "/s/a\#012": c (5)": No such file or directory (2)`: {kind: vanishedMessage, names: []string{"/s/a\n\": c (5)"}, errno: syscall.ENOENT},
		`rsync: [receiver] mkstemp "/t/.x.AbCdEf" failed: Permission denied (13)`:                      {kind: failedMessage, names: []string{"/t/.x.AbCdEf"}, errno: syscall.EACCES},
		`rsync: [receiver] mkstemp "/t/.x.AbCdEf" (in mod) failed: Permission denied (13)`:             {kind: failedMessage, names: []string{"/t/.x.AbCdEf"}, errno: syscall.EACCES},
		`rsync: [generator] recv_generator: mkdir "/t/d" failed: Not a directory (20)`:                 {kind: failedMessage, names: []string{"/t/d"}, errno: syscall.ENOTDIR},
		`rsync: [receiver] rename "/t/.x.AbCdEf" -> "x": Is a directory (21)`:                          {kind: failedMessage, names: []string{"x", `/t/.x.AbCdEf" -> "x`}, errno: syscall.EISDIR},
		`rsync: [generator] symlink "/t/l" -> "to" failed: Operation not permitted (1)`:                {kind: failedMessage, names: []string{"/t/l", `/t/l" -> "to`}, errno: syscall.EPERM},
		`rsync: [generator] link "/t/l" => old failed: Operation not permitted (1)`:                    {kind: failedMessage, names: []string{"/t/l"}, errno: syscall.EPERM},
		`rsync: [receiver] rsync_xal_set: lsetxattr("/t/.x.AbCdEf","user.x") failed: Operation not supported (95)`: {
			kind: failedMessage, names: []string{"/t/.x.AbCdEf", `/t/.x.AbCdEf","user.x`}, errno: syscall.ENOTSUP},
		`rsync: [generator] set_acl: sys_acl_set_file(d/e, ACL_TYPE_DEFAULT): Operation not supported (95)`: {kind: failedMessage, names: []string{"d/e"}, errno: syscall.ENOTSUP},
		`rsync: [generator] delete_file: rmdir(d) failed: Device or resource busy (16)`:                     {kind: failedMessage, names: []string{"d"}, errno: syscall.EBUSY},
		`rsync: [sender] readdir("/s/d"): Input/output error (5)`:                                           {kind: unreadMessage, names: []string{"/s/d"}, errno: syscall.EIO},
		`could not make way for new regular file: a: b`:                                                     {kind: failedMessage, names: []string{"a: b"}},
		`cannot delete non-empty directory: d`:                                                              {kind: keptMessage, names: []string{"d"}},
		`file has vanished: "/s/x"`:                                                                         {kind: vanishedMessage, names: []string{"/s/x"}},
		`skipping non-regular file "x"`:                                                                     {kind: typeMessage, names: []string{"x"}},
		`ERROR: x failed verification -- update discarded.`:                                                 {kind: failedMessage, names: []string{"x"}},
		`WARNING: x failed verification -- update discarded (will try again).`:                              {kind: resentMessage, names: []string{"x"}},
		`IO error encountered -- skipping file deletion`:                                                    {kind: noDeletions, names: []string{""}},
		`failed to re-read xattr user.x for a/b for c`:                                                      {kind: rereadMessage, names: []string{"a/b for c"}},
		`get_xattr_data: lgetxattr("/s/x","user.x",5) returned 4`:                                           {kind: failedMessage, names: []string{"/s/x", `/s/x","user.x`}},
		`attempt to copy device contents without --copy-devices`:                                            {kind: deviceMessage, names: []string{""}},
		`ABORTING due to invalid path from sender: a/b`:                                                     {kind: strayMessage, names: []string{"a/b"}},
		`rsync: connection unexpectedly closed (8 bytes received so far) [sender]`:                          {},
		`Welcome to backup.example.org (1)`:                                                                 {},
	} {
		got := parseMessage(line, "mod")
		if got.kind != want.kind || got.errno != want.errno || !slices.Equal(got.names, want.names) {
			t.Errorf("%s:\n got %+v\nwant %+v", line, got, want)
		}
	}
}

func FuzzOutput(f *testing.F) {
	f.Add("=>f+++++++++ 45 2 a/f\n=*deleting   0 0 x\\#012\r   1238  14%  146.38kB/s    0:00:08 (xfr#5, to-chk=169/396)\nNumber of files: 7 (reg: 4)\n")
	f.Add("rsync: [receiver] rename \"/t/.x.AbCdEf\" -> \"x\": Is a directory (21)\nIO error encountered -- skipping file deletion\n")
	f.Add("rsync: [generator] delete_file: rmdir(d) failed: Device or resource busy (16)\n*** Skipping any contents from this failed directory ***\n")
	f.Fuzz(func(t *testing.T, said string) {
		e := &Engine{Source: "/nonexistent", Target: "/nonexistent", Items: func(i Item) {
			if i.Path == "" && !i.Dir || i.Action == 0 || i.Bytes < 0 {
				t.Errorf("%+v", i)
			}
		}}
		rep := newReport(e, pass{})
		for _, line := range []func(string){rep.output, rep.complaint} {
			w := &lineWriter{line: line}
			// The same whatever pieces it arrives in.
			for _, piece := range strings.SplitAfter(said, " ") {
				if n, err := w.Write([]byte(piece)); n != len(piece) || err != nil {
					t.Fatal(n, err)
				}
			}
			w.close()
		}
		for _, failure := range rep.Failed {
			if failure.Path == "" || strings.HasPrefix(failure.Path, "/") {
				t.Errorf("%+v", failure)
			}
		}
	})
}

func FuzzUnescape(f *testing.F) {
	for _, s := range []string{"", "plain", "\n", `\#012`, `\\#012`, `\#999`, "\xff\x00\\#", `\#\#012`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := unescape(escape(s)); got != s {
			t.Errorf("%q came back as %q", s, got)
		}
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add("12 (a) b (c) S 1 77 3 0 -1 4 0 0 0 0 10 20 0 0 20 0 1 0 555 0")
	f.Fuzz(func(t *testing.T, stat string) { parseStat(stat); parseIO(stat) })
}

func TestParseStat(t *testing.T) {
	p, ok := parseStat("12 (a) b (c) S 1 77 3 0 -1 4 0 0 0 0 10 20 0 0 20 0 1 0 555 0")
	if want := (process{group: 77, state: 'S', start: 555, cpu: 30}); !ok || p != want {
		t.Errorf("%+v, %v", p, ok)
	}
	if n := parseIO("rchar: 100\nwchar: 20\nsyscr: 7\nread_bytes: 4096\n"); n != 120 {
		t.Error(n)
	}
}

func FuzzParseIdentity(f *testing.F) {
	f.Add("12 2026-11-21 03:31:29.340250967 +0000\nab-cd\n")
	f.Add("2 -\n\n")
	f.Fuzz(func(t *testing.T, out string) {
		if id, err := parseIdentity(out); err == nil && strings.Contains(id.UUID, " ") && !strings.Contains(out, " ") {
			t.Errorf("%+v", id)
		}
	})
}

func TestParseIdentity(t *testing.T) {
	id, err := parseIdentity("12 2026-11-21 03:31:29.340250967 +0100\nab-cd\n")
	want := time.Date(2026, 11, 21, 2, 31, 29, 340250967, time.UTC)
	if err != nil || id.Inode != 12 || id.UUID != "ab-cd" || !id.Birth.Equal(want) {
		t.Errorf("%+v, %v", id, err)
	}
	if id, err := parseIdentity("12 -\n\n"); err != nil || !id.Birth.IsZero() || id.UUID != "" {
		t.Errorf("%+v, %v", id, err)
	}
	if _, err := parseIdentity("stat: no\n"); err == nil {
		t.Error("no error")
	}
}

// Idle processes move nothing; a little processor time, or bytes, is work.
func TestMoved(t *testing.T) {
	was := map[int]process{1: {start: 5, cpu: 10, bytes: 1000}, 2: {start: 6, cpu: 1, bytes: 10}}
	for name, c := range map[string]struct {
		now     map[int]process
		elapsed time.Duration
		moved   bool
	}{
		"nothing":       {map[int]process{1: {start: 5, cpu: 10, bytes: 1000}, 2: {start: 6, cpu: 1, bytes: 10}}, time.Minute, false},
		"waking up":     {map[int]process{1: {start: 5, cpu: 11, bytes: 1000}, 2: {start: 6, cpu: 2, bytes: 10}}, time.Minute, false},
		"computing":     {map[int]process{1: {start: 5, cpu: 15, bytes: 1000}, 2: {start: 6, cpu: 1, bytes: 10}}, time.Minute, true},
		"reading":       {map[int]process{1: {start: 5, cpu: 10, bytes: 33768}, 2: {start: 6, cpu: 1, bytes: 10}}, time.Second, true},
		"keeping alive": {map[int]process{1: {start: 5, cpu: 10, bytes: 1080}, 2: {start: 6, cpu: 1, bytes: 10}}, 15 * time.Second, false},
		"one is gone":   {map[int]process{1: {start: 5, cpu: 10, bytes: 1000}}, time.Second, true},
		"another one":   {map[int]process{1: {start: 5, cpu: 10, bytes: 1000}, 2: {start: 9, cpu: 1, bytes: 10}}, time.Second, true},
	} {
		if got := moved(was, c.now, c.elapsed); got != c.moved {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestTargets(t *testing.T) {
	for target, want := range map[string]struct {
		remote, shell            bool
		host, path, name, module string
	}{
		"/a:b/c":               {name: "/a:b/c"},
		"host:/p":              {true, true, "host", "/p", "/p", ""},
		"me@host:rel/x":        {true, true, "me@host", "rel/x", "", ""},
		"host:":                {true, true, "host", "", "", ""},
		"me@[fe80::1%eth0]:/p": {true, true, "me@[fe80::1%eth0]", "/p", "/p", ""},
		"host::module/p/":      {true, false, "host", ":module/p/", "/p", "module"},
		"rsync://host:873/m":   {true, false, "rsync", "//host:873/m", "/", "m"},
		"rsync://h/m/p/./../q": {true, false, "rsync", "//h/m/p/./../q", "/q", "m"},
	} {
		host, path, _ := splitHost(target)
		name, module := namesOnTarget(target)
		if remote(target) != want.remote || overShell(target) != want.shell || host != want.host || path != want.path || name != want.name || module != want.module {
			t.Errorf("%s: remote %v, shell %v, host %q, path %q, names %q, module %q", target, remote(target), overShell(target), host, path, name, module)
		}
	}
}

func FuzzQuote(f *testing.F) {
	f.Add("it's", "a b\n$HOME `x` \\ \"")
	f.Add("", "-n")
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.Contains(a+b, "\x00") {
			t.Skip("no argument holds a NUL")
		}
		out, err := exec.Command("sh", "-c", "printf '%s\\0' "+quote([]string{a, b})).Output()
		if err != nil || string(out) != a+"\x00"+b+"\x00" {
			t.Errorf("%q, %q: %q, %v", a, b, out, err)
		}
	})
}

func TestRemoteWords(t *testing.T) {
	for shell, want := range map[string][]string{
		"ssh -p 22":                       {"ssh", "-p", "22"},
		`ssh -o 'Proxy Command'  "it''s"`: {"ssh", "-o", "Proxy Command", "it''s"},
		`a 'b''c' ""`:                     {"a", "b'c", ""},
	} {
		if got := splitWords(shell); !slices.Equal(got, want) {
			t.Errorf("%s: %q", shell, got)
		}
	}
	for path, want := range map[string]string{
		"": ".", "/a b": "'/a b'", "~/x y": "~/'x y'", "~": "~/", "~me/": "~me/", "~$(x)/y": "'~$(x)/y'", "-n": "./-n",
	} {
		if got := quotePath(path); got != want {
			t.Errorf("%q: %s", path, got)
		}
	}
	for _, options := range [][]string{{"--rsh=ssh -p 7"}, {"-e", "ssh -p 7"}, {"-essh -p 7"}, {"--rsh", "ssh -p 7"}} {
		e := &Engine{Options: options, Target: "h:/p"}
		if got := e.shellWords(); !slices.Equal(got, []string{"ssh", "-p", "7"}) || e.shell() != nil {
			t.Errorf("%q: %q", options, got)
		}
	}
}
