package fanotify

// cacheLimit bounds the bytes a cache holds: some 40,000 directories with paths of 40 bytes.
const cacheLimit = 5 << 20

// entryCost is about what a map entry takes beyond the bytes of its key and value.
const entryCost = 80

// A cache remembers what was found out about a file handle. The zero value is empty. A full one
// begins anew: that costs a few system calls for each handle still in use, and no bookkeeping.
type cache[V any] struct {
	entries map[string]V
	size    int
}

func (c *cache[V]) get(h handle) (V, bool) {
	value, ok := c.entries[string(h)]
	return value, ok
}

// put remembers value, which keeps so many bytes alive that no other entry does.
func (c *cache[V]) put(h handle, value V, bytes int) {
	cost := len(h) + bytes + entryCost
	if c.size+cost > cacheLimit || c.entries == nil {
		c.entries = make(map[string]V)
		c.size = 0
	}
	c.entries[string(h)] = value
	c.size += cost
}

func (c *cache[V]) drop(h handle) {
	delete(c.entries, string(h)) // its size stays counted until the cache begins anew
}

// clear forgets everything.
func (c *cache[V]) clear() {
	c.entries = nil
	c.size = 0
}
