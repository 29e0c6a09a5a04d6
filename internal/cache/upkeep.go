package cache

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"syscall"
	"time"

	"mirror/internal/oci"
)

// upkeepPeriod is how often recency is written out. Losing a minute of it in a crash is harmless.
const upkeepPeriod = time.Minute

// restore fills the table from the index file and sweeps partial files. When the index file is new, the table comes from
// the digest-named files instead.
func (c *Cache) restore(rebuild bool) error {
	if err := c.disk.prepare(); err != nil {
		return err
	}
	err := c.records.load(func(rec record) {
		e := &entry{size: rec.size}
		e.used.Store(rec.used)
		if c.index.put(rec.digest, e) {
			c.room.hold(rec.size)
		}
	})
	if err != nil || !rebuild {
		return err
	}
	if err := c.disk.walk(c.adopt); err != nil {
		return err
	}
	if n := c.index.blobs.Load(); n > 0 {
		c.log.Warn("index was missing or damaged and has been rebuilt from the content", "blobs", n)
	}
	return nil
}

// keepUp runs until Close: once it looks for complete files that have no record (a crash came between name and record),
// then it writes recency out again and again.
func (c *Cache) keepUp(look bool) {
	defer c.upkeep.Done()
	if look {
		if err := c.disk.walk(c.adopt); err != nil && c.ctx.Err() == nil {
			c.log.Warn("data directory could not be searched for content without a record", "error", err)
		}
	}
	if over := c.room.over(); over > 0 {
		c.evict(over)
	}
	written := time.Now().Unix()
	for {
		select {
		case <-time.After(upkeepPeriod):
		case <-c.ctx.Done():
			c.writeRecency(written)
			return
		}
		now := time.Now().Unix()
		c.writeRecency(written)
		written = now
		c.dropParts(0)
	}
}

// adopt takes complete content into table and index that is on the disk without a record.
func (c *Cache) adopt(d oci.Digest, size int64) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if e, _ := c.index.find(d); e != nil {
		return nil
	}
	c.names.RLock() // nobody unlinks the file now
	defer c.names.RUnlock()
	if _, err := os.Stat(blobPath(c.disk.dir, d)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	e := &entry{size: size}
	now := time.Now().Unix()
	e.used.Store(now)
	if !c.index.put(d, e) {
		return nil
	}
	c.room.hold(size)
	return c.records.put(record{digest: d, size: size, stored: now})
}

// writeRecency writes out the times of use since the given one.
func (c *Cache) writeRecency(since int64) {
	used := make(map[oci.Digest]int64)
	c.index.each(func(d oci.Digest, e *entry) {
		if at := e.used.Load(); at >= since {
			used[d] = at
		}
	})
	if err := c.records.touch(used); err != nil {
		c.log.Warn("recency could not be written; eviction after a restart will choose less well", "error", err)
	}
}

// dropAllParts discards what failed fills have left.
func (c *Cache) dropAllParts() { c.dropParts(math.MaxInt64) }

// isExhaustion reports whether an open failed for want of something in this process, not for a fault of the file.
func isExhaustion(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// Fills returns how many fills are running.
func (c *Cache) Fills() int {
	n := 0
	c.index.eachFill(func(*fill) { n++ })
	return n
}
