package cache

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// leastShare bounds the part of the file system, as a divisor, that is left free: a limit for large disks would take
	// all of a small one.
	leastShare = 10
	// makeAtLeast is how much is evicted when the file system turns out to be full, in bytes: room for more than the one
	// write that failed.
	makeAtLeast = 16 << 20
	// fullFor is how long the file system counts as full after evicting did not help. Content passes through meanwhile,
	// and what is cached stays.
	fullFor = 10 * time.Second
)

// space is the room on the file system of the data directory, which others use too: whatever the limit says, there is
// no more than that.
type space struct {
	dir string
	// least is how many bytes stay free.
	least int64
	// look returns how many bytes are free and how many there are in all. It is statfs; tests set another.
	look func(dir string) (free, all int64, err error)
	// full is until when nothing more is tried, in nanoseconds since 1970.
	full atomic.Int64
}

// lacking returns how many bytes have to be freed before n more are written, and pending ones that are promised already.
// A file system that does not tell lacks nothing.
func (s *space) lacking(n, pending int64) int64 {
	free, all, err := s.look(s.dir)
	if err != nil || all <= 0 {
		return 0
	}
	return max(0, n+pending+min(s.least, all/leastShare)-free)
}

// isFull reports whether evicting did not help a moment ago. A time further ahead than that was noted by a clock that has
// been set back since.
func (s *space) isFull() bool {
	left := time.Duration(s.full.Load() - time.Now().UnixNano())
	return 0 < left && left <= fullFor
}

func (s *space) noteFull() { s.full.Store(time.Now().Add(fullFor).UnixNano()) }

// errFull: the file system has no room, whatever the limit of the cache says.
func errFull() error {
	return fmt.Errorf("%w: the file system of the data directory is full, or nearly (cache.min_free)", ErrNoRoom)
}

// reserve takes n bytes of the limit and sees to it that the file system has them, evicting for both when needed. It
// fails with ErrNoRoom when even an empty cache would be too small or everything that is left is in use by fills.
func (c *Cache) reserve(n int64) error {
	if n > 0 && c.space.isFull() {
		return errFull()
	}
	if err := c.reserveInLimit(n); err != nil {
		return err
	}
	if c.makeSpace(n) {
		return nil
	}
	c.room.give(n)
	return errFull()
}

// makeSpace evicts when the file system has no room for n more bytes, which are reserved. When there would be none even
// without all that can be evicted, nothing is evicted for them: whoever asks for something huge must not empty the cache.
func (c *Cache) makeSpace(n int64) bool {
	if c.space.lacking(n, c.promised()) == 0 {
		return true
	}
	c.evicting.Lock()
	defer c.evicting.Unlock()
	possible := n
	if c.space.lacking(n, c.promised()) > c.evictable()-n {
		possible = 0 // others are given way to all the same
	}
	return c.giveWay(possible) && possible == n
}

// giveWay evicts once for n more bytes: when that frees less than it should, readers have the files open or somebody else
// writes, and evicting more would cost content for nothing. The caller holds evicting.
func (c *Cache) giveWay(n int64) bool {
	lacking := c.space.lacking(n, c.promised())
	if lacking == 0 {
		return true
	}
	c.evict(lacking)
	if c.space.lacking(n, c.promised()) == 0 {
		return true
	}
	c.space.noteFull()
	return false
}

// evictable returns how many bytes evictions could free at most: all that is accounted for, but for pins and for what running
// fills have still to write.
func (c *Cache) evictable() int64 {
	promised := c.promised()
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	return c.room.taken - promised - c.index.pinnedBytes.Load()
}

// promised returns how many bytes running fills are going to write.
func (c *Cache) promised() (n int64) {
	c.index.eachFill(func(f *fill) {
		f.mu.Lock()
		defer f.mu.Unlock()
		n += f.promisedLocked()
	})
	return n
}

// filling returns how many bytes running fills have reserved, as far as their lengths are known.
func (c *Cache) filling() (n int64) {
	c.index.eachFill(func(f *fill) { n += f.reserves() })
	return n
}

// write writes content to a part. When the file system turns out to be full, it evicts and tries once more: others write
// there too, and what a look at the free bytes tells is old at once.
func (c *Cache) write(p *part, b []byte, off int64) error {
	err := c.disk.writeAt(p.file, b, off)
	if !isOutOfSpace(err) || c.space.isFull() || !c.relieve(int64(len(b))) {
		return err
	}
	if err = c.disk.writeAt(p.file, b, off); isOutOfSpace(err) {
		c.space.noteFull()
	}
	return err
}

// relieve evicts for at least n bytes and reports whether that freed any.
func (c *Cache) relieve(n int64) bool {
	c.evicting.Lock()
	defer c.evicting.Unlock()
	return c.evict(max(n, min(makeAtLeast, c.room.limit/leastShare)))
}

// isOutOfSpace reports whether an error of the file system goes away when files are removed.
func isOutOfSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
