package profile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		good  string // names of the profiles that are returned
		want  string // the error, without the directory
	}{
		{name: "nothing", good: ""},
		{
			name: "sorted by name, not by file name; other files are not looked at",
			files: map[string]string{
				"a.toml":    "source = '/no/a'\ntarget = '/no/1'",
				"a-b.toml":  "source = '/no/a'\ntarget = '/no/2'",
				"notes":     "x",
				".#a.toml":  "x",
				"a.toml~":   "x",
				"zz.toml":   "source = '/no/1'\ntarget = '/no/3'",
				"dots.toml": "source = '/no/2'\ntarget = '/no/12'",
			},
			good: "a a-b dots zz",
		},
		{
			name: "every mistake of every file",
			files: map[string]string{
				"bad.toml":   "source = 5\n",
				"good.toml":  good,
				"worse.toml": "engine = ''\n" + good,
			},
			good: "good",
			want: `/bad.toml:1: source: is an integer; allowed: an absolute path on this machine, such as "/home"
/bad.toml:1: target: is missing; allowed: "/path", "host:/path", "user@host:/path" or "rsync://host/module/path"
/worse.toml:1: engine: "" is not known; allowed: "auto" or "rsync"`,
		},
		{
			name: "one target, written in two ways",
			files: map[string]string{
				"a.toml": "source = '/no/a'\ntarget = '/no/t'",
				"b.toml": "source = '/no/b'\n\ntarget = '/no//t/'",
				"c.toml": "source = '/no/b'\ntarget = '/no/u'",
			},
			good: "c",
			want: `/b.toml:3: target: "/no/t" is also the target of profile a; every profile needs a target of its own`,
		},
		{
			name: "one target on other machines",
			files: map[string]string{
				"a.toml": "source = '/no/a'\ntarget = 'me@Host:/t'",
				"b.toml": "source = '/no/a'\ntarget = 'host:/t'",
				"c.toml": "source = '/no/a'\ntarget = 'rsync://host/t'",
				"d.toml": "source = '/no/a'\ntarget = 'rsync://host:873/t'",
				"e.toml": "source = '/no/a'\ntarget = 'rsync://host:874/t'",
			},
			good: "e",
			want: `/b.toml:2: target: "host:/t" is also the target of profile a; every profile needs a target of its own
/d.toml:2: target: "rsync://host:873/t" is also the target of profile c; every profile needs a target of its own`,
		},
		{
			name: "a target inside another",
			files: map[string]string{
				"a.toml": "source = '/no/a'\ntarget = '/no/t'\nexclude = ['/kept/']",
				"b.toml": "source = '/no/a'\ntarget = '/no/t/kept/b'",
				"c.toml": "source = '/no/a'\ntarget = 'host:/t/c'",
				"d.toml": "source = '/no/a'\ntarget = 'host:/t'",
				"e.toml": "source = '/no/a'\ntarget = 'host:/t/c/e'",
			},
			good: "a b",
			want: `/d.toml:2: target: "host:/t" holds the target of profile c and does not exclude "/c/"; every profile needs a target of its own
/e.toml:2: target: "host:/t/c/e" is inside the target of profile c, which does not exclude "/e/"; every profile needs a target of its own
/e.toml:2: target: "host:/t/c/e" is inside the target of profile d, which does not exclude "/c/e/"; every profile needs a target of its own`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			profiles, err := Load(dir)
			var names []string
			for _, p := range profiles {
				names = append(names, p.Name)
			}
			if got := strings.Join(names, " "); got != test.good {
				t.Errorf("got the profiles %q, want %q", got, test.good)
			}
			var got string
			if err != nil {
				got = strings.ReplaceAll(err.Error(), dir, "")
			}
			if got != test.want {
				t.Errorf("got the error\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestLoadThroughSymlink(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "disk"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("disk", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"disk", "link"} {
		text := Template("/no/a", filepath.Join(dir, name, "t"))
		if err := os.WriteFile(filepath.Join(dir, name+".toml"), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	profiles, err := Load(dir)
	if len(profiles) > 0 || err == nil || !strings.Contains(err.Error(), "is also the target of profile disk") {
		t.Errorf("got %v, %v", profiles, err)
	}
}

func TestLoadNowhere(t *testing.T) {
	if _, err := Load("/no/such/directory"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
