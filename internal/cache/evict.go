package cache

import (
	"slices"
	"time"

	"mirror/internal/oci"
)

const (
	// evictAtOnce is how many contents an eviction removes in one step, of some ten milliseconds, for which stores wait.
	evictAtOnce = 256
	// evictPause is how long it rests when it could free nothing, because everything is pinned or in use.
	evictPause = 10 * time.Second
	// pinWarningInterval is the least time between two warnings that pins leave no room.
	pinWarningInterval = time.Hour
)

// victim is content that is to be removed.
type victim struct {
	digest oci.Digest
	entry  *entry
}

// evictAhead runs until Close: when less than room.ahead is free, it evicts until twice that is, so that fills find room
// without waiting.
func (c *Cache) evictAhead() {
	<-c.looked
	for {
		select {
		case <-c.room.pressed:
		case <-c.ctx.Done():
			return
		}
		if c.makeAhead() {
			continue
		}
		select {
		case <-time.After(evictPause):
		case <-c.ctx.Done():
			return
		}
	}
}

// makeAhead evicts until enough is free for fills to come, and reports whether that worked at least in part. Choosing looks
// at everything, and happens without a lock; removing happens in steps, so that a fill that cannot wait comes between.
func (c *Cache) makeAhead() bool {
	freed := c.retryLeftovers()
	freed += c.dropParts(c.room.lacking(), partFresh)
	for step := range slices.Chunk(c.coldest(c.room.lacking()), evictAtOnce) {
		if c.room.lacking() <= 0 || c.ctx.Err() != nil || c.leftovers.tooMany() {
			break // a fill that could not wait has made room itself, or nobody can
		}
		c.evicting.Lock()
		freed += c.discardAll(step, c.index.takeUnpinned)
		c.evicting.Unlock()
	}
	freed += c.dropParts(c.room.lacking(), 0)
	return freed > 0 || c.room.lacking() <= 0
}

// shrink evicts until the limit holds, after a start with a limit lower than what is there.
func (c *Cache) shrink() {
	c.evicting.Lock()
	defer c.evicting.Unlock()
	for over := c.room.over(); over > 0; over = c.room.over() {
		if !c.evict(over) {
			return
		}
	}
}

// evict makes at least need bytes of room if it can: first what failed fills have left some time ago, then what the policy
// chooses (policy.go), then what somebody may be about to continue, and last what is in quarantine. While files cannot be
// unlinked, content stays. It reports whether any room was
// made. The caller holds evicting.
func (c *Cache) evict(need int64) bool {
	freed := c.retryLeftovers()
	freed += c.dropParts(need-freed, partFresh)
	for step := range slices.Chunk(c.coldest(need-freed), evictAtOnce) {
		if c.leftovers.tooMany() {
			break
		}
		freed += c.discardAll(step, c.index.takeUnpinned)
	}
	freed += c.dropParts(need-freed, 0)
	if freed < need {
		freed += c.emptyQuarantine()
	}
	return freed > 0
}

// coldest returns the contents that the policy evicts for need bytes. For none it does not look at everything.
func (c *Cache) coldest(need int64) []victim {
	var victims []victim
	if need <= 0 {
		return nil
	}
	for _, chosen := range Coldest(c.index.candidates(), need, c.room.limit, time.Now().Unix()) {
		victims = append(victims, chosen.Key)
	}
	return victims
}

// warnOfPins says so, now and then, when it is pins that leave no room for n bytes.
func (c *Cache) warnOfPins(n int64) {
	pinned, limit := c.index.pinnedBytes.Load(), c.room.limit
	if n > limit || pinned <= min(limit-n, limit/2) {
		return
	}
	c.pinWarning.Do(func() {
		c.log.Warn("pinned content leaves no room for more, which is passed through without being stored: unpin something or raise cache.max_size",
			"bytes", pinned)
	})
}

// discardAll removes contents in the order that a crash survives: out of the table, out of the index file, then unlinked.
// A file left by a crash in between is found and taken in again by the next start. What take refuses stays. It returns the
// bytes freed.
func (c *Cache) discardAll(victims []victim, take func(oci.Digest, *entry) bool) int64 {
	// A fill that stores the same digest again must not have its new file unlinked by us.
	c.names.Lock()
	defer c.names.Unlock()
	var freed int64
	for _, v := range c.withdraw(victims, take) {
		if err := c.disk.remove(v.digest); err != nil {
			c.log.Warn("evicted content could not be unlinked; that is tried again later", "digest", v.digest, "error", err)
			c.leftovers.add(blobPath(c.disk.dir, v.digest), v.entry.size)
			continue
		}
		freed += v.entry.size
	}
	c.room.give(freed)
	c.metrics.evictedDisk.Add(float64(freed))
	return freed
}

// withdraw takes contents out of the table, the index file and memory, and returns those that take found still there. Their
// files and their room are left to the caller, who holds names alone.
func (c *Cache) withdraw(victims []victim, take func(oci.Digest, *entry) bool) []victim {
	taken := victims[:0:0]
	digests := make([]oci.Digest, 0, len(victims))
	for _, v := range victims {
		if take(v.digest, v.entry) {
			taken = append(taken, v)
			digests = append(digests, v.digest)
		}
	}
	if err := c.records.remove(digests); err != nil {
		c.indexFailed(err)
	}
	for _, v := range taken {
		c.memory.drop(v.digest)
		c.shelf.drop(v.entry)
	}
	return taken
}
