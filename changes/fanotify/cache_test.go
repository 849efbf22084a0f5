package fanotify

import (
	"encoding/binary"
	"testing"
)

func TestCacheIsBounded(t *testing.T) {
	var c cache[string]
	h := make(handle, 12)
	most := 0
	for i := range uint32(200_000) {
		binary.NativeEndian.PutUint32(h, i)
		const path = "/a/path/of/about/forty/bytes/as/many/are"
		c.put(h, path, len(path))
		if path, ok := c.get(h); !ok || path == "" {
			t.Fatalf("entry %d is not there", i)
		}
		most = max(most, len(c.entries))
	}
	if most < 30_000 || most > 50_000 {
		t.Errorf("held %d entries at most", most)
	}
	c.drop(h)
	if _, ok := c.get(h); ok {
		t.Error("a dropped entry is still there")
	}
	c.clear()
	if len(c.entries) != 0 || c.size != 0 {
		t.Error("not empty after clear")
	}
}
