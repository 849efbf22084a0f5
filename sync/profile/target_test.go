package profile

import (
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for _, test := range []struct {
		text string
		want Target
		form string // of the Target; empty: text
	}{
		{"/mnt/backup", Target{Path: "/mnt/backup"}, ""},
		{"/mnt//backup/./", Target{Path: "/mnt/backup"}, "/mnt/backup"},
		{"/", Target{Path: "/"}, ""},
		{`/a/t[1]*?\b`, Target{Path: `/a/t[1]*?\b`}, ""},
		{"host:/a/t]", Target{Host: "host", Path: "/a/t]"}, ""},
		{"/a:b", Target{Path: "/a:b"}, ""},
		{"/a\n\xff", Target{Path: "/a\n\xff"}, ""},
		{"host:/p", Target{Host: "host", Path: "/p"}, ""},
		{"host:/p/~x:y//", Target{Host: "host", Path: "/p/~x:y"}, "host:/p/~x:y"},
		{"me@host.example:/p", Target{Host: "me@host.example", Path: "/p"}, ""},
		{"me@corp.example@host:/p", Target{Host: "me@corp.example@host", Path: "/p"}, ""},
		{"[::1]:/p", Target{Host: "::1", Path: "/p"}, ""},
		{"me@[fe80::1%eth0]:/p", Target{Host: "me@fe80::1%eth0", Path: "/p"}, ""},
		{"rsync://host/mod", Target{Host: "host", Daemon: true, Path: "mod"}, ""},
		{"RSYNC://host/mod/", Target{Host: "host", Daemon: true, Path: "mod"}, "rsync://host/mod"},
		{"rsync://me@host:8730/mod/a//b", Target{Host: "me@host", Daemon: true, Port: 8730, Path: "mod/a/b"}, "rsync://me@host:8730/mod/a/b"},
		{"rsync://[::1]:873/mod/p", Target{Host: "::1", Daemon: true, Port: 873, Path: "mod/p"}, ""},
	} {
		got, err := ParseTarget(test.text)
		if err != nil || got != test.want {
			t.Errorf("%s: got %#v, %v", test.text, got, err)
		}
		form := test.form
		if form == "" {
			form = test.text
		}
		if got.String() != form {
			t.Errorf("%s: got the form %s, want %s", test.text, got, form)
		}
		if got.Local() != (test.want.Host == "") {
			t.Errorf("%s: Local is %t", test.text, got.Local())
		}
	}
}

func TestParseTargetWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":                              `the path is empty`,
		"dir":                           `"dir" is not an absolute path`,
		"./a:b":                         `"./a:b" is not an absolute path`,
		"~/dir":                         `"~/dir" is not expanded`,
		"/a/..":                         `"/a/.." holds ".."`,
		"/a\x00":                        `"/a\x00" holds a NUL byte`,
		"h\x00:/a":                      `"h\x00:/a" holds a NUL byte`,
		"/" + strings.Repeat("a", 4095): `"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"… has 4096 bytes, the kernel takes at most 4095`,
		"host:":                         `the path after "host:" depends on who logs in, it has to be absolute`,
		"host:/a/../b":                  `"/a/../b" holds ".."`,
		":/a":                           `the name of the host is empty`,
		"me@:/a":                        `the name of the host is empty`,
		"@host:/a":                      `the name of the host is empty`,
		"::1:/a":                        `"::1:/a" has two colons, a daemon is written as rsync:///module/path`,
		"[host]:/a":                     `"[host]" is not an IPv6 address`,
		"[127.0.0.1]:/a":                `"[127.0.0.1]" is not an IPv6 address`,
		"[::1]x:/a":                     `"[::1]x" is not an IPv6 address`,
		"-x:/a":                         `"-x" begins with "-"`,
		"-x@host:/a":                    `"-x@host" begins with "-"`,
		"me@-x:/a":                      `"me@-x" begins with "-"`,
		"ho st:/a":                      `"ho st" is not the name of a host`,
		"host\n:/a":                     `"host\n" is not the name of a host`,
		"file:///a":                     `"file:///a" is a URL that rsync does not know`,
		"rsync://":                      `the name of the host is empty`,
		"rsync:///mod":                  `the name of the host is empty`,
		"rsync://host":                  `"rsync://host" lacks the daemon's module`,
		"rsync://host/":                 `"rsync://host/" lacks the daemon's module`,
		"rsync://host//a":               `"rsync://host//a" lacks the daemon's module`,
		"rsync://host/.":                `"rsync://host/." lacks the daemon's module`,
		"rsync://host/mod/../etc":       `"/mod/../etc" holds ".."`,
		"rsync://host:0/mod":            `"0" is not a port`,
		"rsync://host:x/mod":            `"x" is not a port`,
		"rsync://host:65536/mod":        `"65536" is not a port`,
		"host:/a/t[1]":                  `"/a/t[1]" holds a "[", which the rsync there would not take literally: give the directory another name`,
		"me@[::1]:/a*":                  `"/a*" holds a "*", which the rsync there would not take literally: give the directory another name`,
		"rsync://host/mod/t?":           `"/mod/t?" holds a "?", which the rsync there would not take literally: give the directory another name`,
		`host:/a\b`:                     `"/a\\b" holds a "\\", which the rsync there would not take literally: give the directory another name`,
		"rsync://me:pw@host/mod":        `"pw@host" is not a port`,
	} {
		if got, err := ParseTarget(text); err == nil || err.Error() != want {
			t.Errorf("%q:\n got %#v, %v\nwant %s", text, got, err, want)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"/a//b", "u@h:/p", "[::1]:/p", "rsync://u@[::1]:7/m/p", "a:b", "a::b", "@@:/", "[:]:/", "rsync://[a/b", "u@[::1@h]:/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		target, err := ParseTarget(text)
		if err != nil {
			return
		}
		if again, err := ParseTarget(target.String()); err != nil || again != target {
			t.Fatalf("%q is %#v, its form %q is %#v, %v", text, target, target, again, err)
		}
	})
}
