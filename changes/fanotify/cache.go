package fanotify

// cacheLimit bounds the bytes a cache holds: some 40,000 directories with paths of 40 bytes.
const cacheLimit = 5 << 20

// entryCost is about what a map entry takes beyond the bytes of its key and value.
const entryCost = 72

// A cache remembers what was found out about a file handle. The zero value is empty. A full one
// begins anew: that costs a few system calls for each handle still in use, and no bookkeeping.
type cache struct {
	paths map[string]string
	size  int
}

func (c *cache) get(h handle) (string, bool) {
	path, ok := c.paths[string(h)]
	return path, ok
}

func (c *cache) put(h handle, path string) {
	cost := len(h) + len(path) + entryCost
	if c.size+cost > cacheLimit || c.paths == nil {
		c.paths = make(map[string]string)
		c.size = 0
	}
	c.paths[string(h)] = path
	c.size += cost
}

func (c *cache) drop(h handle) {
	delete(c.paths, string(h)) // its size stays counted until the cache begins anew
}

// clear forgets everything, as every rename of a directory asks for.
func (c *cache) clear() {
	c.paths = nil
	c.size = 0
}
