package cache

import (
	"errors"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"mirror/internal/oci"
)

// upkeepPeriod is how often recency is written out. Losing a minute of it in a crash is harmless.
const upkeepPeriod = time.Minute

// largeTable is how many blobs make it worth a garbage collection to give back what a start leaves. With so many that is
// some ten megabytes.
const largeTable = 100_000

// restore fills the table from the index file, and with what earlier runs have left unfinished. When the index file is new,
// the table comes from the digest-named files instead.
func (c *Cache) restore(rebuild bool) error {
	if err := c.disk.prepare(); err != nil {
		return err
	}
	if err := c.restoreQuarantine(); err != nil {
		return err
	}
	if err := c.restorePins(); err != nil {
		return err
	}
	if err := c.beginSync(); err != nil {
		return err
	}
	var unsure []oci.Digest
	err := c.records.load(func(rec record) {
		if c.doubtful(rec) {
			unsure = append(unsure, rec.digest)
			return
		}
		c.take(rec)
	})
	if err == nil {
		if err := c.records.remove(unsure); err != nil { // the search for content without a record finds them
			c.indexFailed(err) // and does so again after a crash, because the note of the doubts stays
		}
		err = c.restoreParts()
	}
	if err != nil || !rebuild {
		return err
	}
	if err := c.look(); err != nil {
		return err
	}
	if n := c.index.blobs.Load(); n > 0 {
		c.log.Warn("index was missing or damaged and has been rebuilt from the content", "blobs", n)
	}
	return nil
}

// take puts complete content into the table, and its bytes into the account.
func (c *Cache) take(rec record) bool {
	if !c.index.put(rec.digest, newEntry(rec)) {
		return false
	}
	c.room.hold(rec.size)
	return true
}

// keepUp runs until Close: once it looks for complete files that have no record (a crash came between name and record),
// then it writes recency out again and again.
func (c *Cache) keepUp(look bool) {
	written := time.Now().Unix()
	var err error
	if look {
		if err = c.look(); err != nil && c.ctx.Err() == nil {
			c.log.Warn("data directory could not be searched for content without a record", "error", err)
		}
	}
	c.shrink()
	if err == nil {
		c.sureAgain()
	}
	close(c.looked)
	c.giveBack()
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
		c.dropParts(0, 0)
		c.retryLeftovers()
		c.makeSpace(0) // others may have filled the file system
		if c.disk.lazy && c.sure {
			c.sureAgain()
		}
		c.flushRecords()
	}
}

// giveBack returns to the system what the start and the search have left: tables that were outgrown, names of files. The Go
// runtime would keep that until the heap has grown to twice what is in use, and a node that is idle would never get there.
func (c *Cache) giveBack() {
	if c.index.blobs.Load() >= largeTable {
		debug.FreeOSMemory()
	}
}

// sureAgain notes that everything stored so far is safe from a loss of power. Nothing is doubtful any more.
func (c *Cache) sureAgain() {
	if err := c.settleSync(); err != nil {
		c.log.Warn("data directory could not be synced; a loss of power would cost more of what was stored last", "error", err)
		return
	}
	c.sure = true
}

// look takes complete content into table and index that is on the disk without a record.
func (c *Cache) look() error {
	var found []oci.Digest
	err := c.disk.walk(func(d oci.Digest) error {
		if e, _ := c.index.find(d); e == nil && c.confirm(d) {
			found = append(found, d)
		}
		if len(found) < batchLimit {
			return c.ctx.Err()
		}
		c.adopt(found)
		found = found[:0]
		return nil
	})
	if err == nil {
		c.adopt(found)
	}
	return err
}

// adopt takes files into table and index. Running fills of the same content come first: what they store replaces the file,
// and the file of a fill that fails is taken in after it.
func (c *Cache) adopt(found []oci.Digest) {
	for {
		filling := c.adoptOnce(found)
		if len(filling) == 0 {
			return
		}
		for _, d := range filling {
			if _, f := c.index.find(d); f != nil {
				<-f.done
			}
		}
		found = filling
	}
}

// adoptOnce takes in what is not being filled, in one transaction, and returns the rest.
func (c *Cache) adoptOnce(found []oci.Digest) (filling []oci.Digest) {
	c.names.RLock() // nobody unlinks a file now
	defer c.names.RUnlock()
	now := time.Now().Unix()
	leftovers := c.leftovers.all()
	var taken []record
	for _, d := range found {
		path := blobPath(c.disk.dir, d)
		info, err := os.Stat(path)
		if _, left := leftovers[path]; err != nil || left || info.IsDir() {
			continue // removed since it was found, or not ours
		}
		rec := record{digest: d, size: info.Size(), stored: now, use: FirstUse(now)}
		if c.take(rec) {
			taken = append(taken, rec)
		} else if e, _ := c.index.find(d); e == nil {
			filling = append(filling, d) // or it was a moment ago
		}
	}
	if err := c.records.put(taken...); err != nil {
		c.indexFailed(err)
	}
	return filling
}

// recencyBatch is how many uses are written out in one transaction. It bounds the memory for that, also when everything
// was used in the last minute.
const recencyBatch = 10_000

// writeRecency writes out the uses since the given time.
func (c *Cache) writeRecency(since int64) {
	used := make(map[oci.Digest]Use)
	var err error
	for i := range c.index.shards {
		c.index.shards[i].usedSince(since, used)
		if len(used) >= recencyBatch {
			err = errors.Join(err, c.records.touch(used))
			clear(used)
		}
	}
	if err = errors.Join(err, c.records.touch(used)); err != nil {
		c.log.Warn("recency could not be written; eviction after a restart will choose less well", "error", err)
	}
}

// usedSince adds the contents used since the given time to used.
func (s *shard) usedSince(since int64, used map[oci.Digest]Use) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for d, e := range s.entries.All() {
		if use := Use(e.use.Load()); use.At() >= since {
			used[d] = use
		}
	}
}

// isExhaustion reports whether an open failed for want of something in this process, not for a fault of the file.
func isExhaustion(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// Fills returns how many fills are running, those included that have left the table and are tidying up.
func (c *Cache) Fills() int { return int(c.running.Load()) }
