package cache

import (
	"maps"
	"slices"
	"sync"
)

// leftoversToStop is how many files that cannot be unlinked mean that none can: the file system has become read-only, most
// likely. Evicting more would only take content out of service that can still be read.
const leftoversToStop = 16

// leftovers are files that nobody wants any more and that could not be unlinked. Their bytes stay accounted for, because
// they are on the disk, until unlinking them works. A restart forgets them: it sweeps partial files without a journal and
// takes in complete ones.
type leftovers struct {
	mu    sync.Mutex
	files map[string]int64 // path to bytes of room
}

func (l *leftovers) add(path string, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files[path] += n
}

// tooMany reports whether there are so many that removing more makes no room.
func (l *leftovers) tooMany() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.files) >= leftoversToStop
}

// take forgets the file at path and returns the room it held, and whether there was such a leftover.
func (l *leftovers) take(path string) (n int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok = l.files[path]
	delete(l.files, path)
	return n, ok
}

// all returns a copy.
func (l *leftovers) all() map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.files)
}

// retryLeftovers unlinks what could not be unlinked before and returns the bytes freed.
func (c *Cache) retryLeftovers() int64 {
	paths := slices.Collect(maps.Keys(c.leftovers.all()))
	if len(paths) == 0 {
		return 0
	}
	c.names.Lock() // a fill may store content under such a path; it takes the path from the leftovers then
	defer c.names.Unlock()
	var freed int64
	for _, path := range paths {
		n, ok := c.leftovers.take(path)
		if !ok {
			continue
		}
		if err := c.disk.unlink(path); err != nil {
			c.leftovers.add(path, n)
			continue
		}
		freed += n
	}
	c.room.give(freed)
	return freed
}
