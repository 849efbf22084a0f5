package inotify

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"rsince/changes"
)

func FuzzKey(f *testing.F) {
	k, err := newKeys()
	if err != nil {
		f.Fatal(err)
	}
	defer k.close()
	f.Add(uint64(1), "name")
	f.Add(uint64(base*base*base+5), "")
	f.Add(^uint64(0), "5")
	f.Fuzz(func(t *testing.T, key uint64, name string) {
		_, _, _ = k.parse(descriptors + "/" + name)
		_, _, _ = k.parse(name)
		if key == 0 || strings.HasPrefix(name, "/") {
			return
		}
		path := k.path(key)
		if name != "" {
			path += "/" + name
		}
		if gotKey, gotName, ok := k.parse(path); !ok || gotKey != key || gotName != name {
			t.Errorf("%s is key %d and name %q, want %d and %q", path, gotKey, gotName, key, name)
		}
	})
}

func FuzzParseMounts(f *testing.F) {
	f.Add([]byte("36 35 98:0 / /src/a\\040b\\012 rw,noatime shared:1 - ext4 /dev/root rw\n" +
		"37 35 98:0 / /src rw - ext4 /dev/root rw\n38 35 98:0 / /srcs rw - ext4 /dev/root rw\n"))
	f.Fuzz(func(t *testing.T, table []byte) {
		below, err := parseMounts(bytes.NewReader(table), changes.Source{Path: "/src"})
		if err != nil {
			return
		}
		for path := range below {
			if path == "" || path == "." || strings.HasPrefix(path, "/") {
				t.Errorf("%q", path)
			}
		}
	})
}

func TestParseMounts(t *testing.T) {
	const table = "36 35 98:0 / /src/a\\040b\\012 rw,noatime shared:1 - ext4 /dev/root rw\n" +
		"37 35 98:0 / /src rw - ext4 /dev/root rw\n" +
		"38 35 98:0 / /srcs rw - ext4 /dev/root rw\n" +
		"40 35 98:0 / /src/skip/m rw - ext4 /dev/root rw\n" +
		"39 36 98:0 / /src/a\\040b\\012 rw - tmpfs tmpfs rw\n"
	got, err := parseMounts(strings.NewReader(table), changes.Source{Path: "/src", Skip: []string{"/src/skip"}})
	if err != nil || len(got) != 1 || !slices.Equal(got["a b\n"], []int{36, 39}) {
		t.Errorf("%v, %v", got, err)
	}
}
