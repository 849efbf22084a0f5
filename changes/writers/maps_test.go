package writers

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSharedMappings(t *testing.T) {
	long := strings.Repeat("/"+strings.Repeat("x", 250), 400)
	for _, c := range []struct{ line, want string }{
		{"00400000-00452000 rw-s 00001000 08:02 173521                     /srv/db", "400000-452000 8:2 173521"},
		{"7f5cc1400000-7f5cc1500000 rw-s 00000000 fe:00 5 /srv/db (deleted)", "7f5cc1400000-7f5cc1500000 254:0 5"},
		{"7f5cc1400000-7f5cc1500000 r--s 00000000 103:1f 5 /srv/a\\012b", "7f5cc1400000-7f5cc1500000 259:31 5"},
		{"7f5cc1400000-7f5cc1500000 rw-s 00000000 00:01 2051 /dev/zero (deleted)", "7f5cc1400000-7f5cc1500000 0:1 2051"},
		{"7f5cc1400000-7f5cc1500000 ---s 00000000 00:2a 7", "7f5cc1400000-7f5cc1500000 0:42 7"},
		{"1000-2000 rw-s 00000000 08:02 3 " + long, "1000-2000 8:2 3"},
		{"1000-2000 rw-s 00000000 08:02 3 /a 3000-4000 rw-s 00000000 08:02 4 /b", "1000-2000 8:2 3"},
		{"7ffd5a1c2000-7ffd5a1e3000 rw-p 00000000 00:00 0                          [stack]", ""},
		{"7f5cc1400000-7f5cc1500000 rw-s 00000000 00:00 0", ""},
		{"7f5cc1400000-7f5cc1500000 rw-p 00000000 fe:00 5 /srv/db", ""},
		{"7f5cc1400000 rw-s 00000000 fe:00 5", ""},
		{"x-y rw-s 00000000 fe:00 5", ""},
		{"rw-s", ""},
		{"", ""},
	} {
		all, err := sharedMappings(strings.NewReader(c.line + "\n" + c.line))
		if err != nil {
			t.Fatal(err)
		}
		want := 2
		if c.want == "" {
			want = 0
		}
		if len(all) != want {
			t.Errorf("%.80q: %d mappings", c.line, len(all))
		}
		for _, m := range all {
			if got := fmt.Sprintf("%v %d:%d %d", m, unix.Major(m.dev), unix.Minor(m.dev), m.ino); got != c.want {
				t.Errorf("%.80q: %s", c.line, got)
			}
		}
	}
}

func FuzzSharedMappings(f *testing.F) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(maps))
	f.Add("00400000-00452000 rw-s 00001000 08:02 173521                     /srv/a\\012b (deleted)\n")
	f.Fuzz(func(t *testing.T, maps string) {
		all, err := sharedMappings(strings.NewReader(maps))
		if err != nil {
			t.Fatal(err)
		}
		if len(all) > strings.Count(maps, "\n")+1 {
			t.Errorf("%d mappings in %q", len(all), maps)
		}
		for _, m := range all {
			line := fmt.Sprintf("%v rw-s 0 %x:%x %d", m, unix.Major(m.dev), unix.Minor(m.dev), m.ino)
			if again, ok := parseMapping([]byte(line)); !ok || again != m {
				t.Errorf("%+v, read again %+v", m, again)
			}
		}
	})
}
