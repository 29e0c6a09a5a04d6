package cache

import (
	"sync"

	"mirror/internal/oci"
)

// room accounts for the bytes of the disk tier: complete content, partial content, damaged content in quarantine, and what
// running fills have reserved.
// The sum never exceeds the limit.
type room struct {
	mu    sync.Mutex
	limit int64
	taken int64
}

// take reserves n bytes and reports whether there was room; short is how much was lacking.
func (r *room) take(n int64) (short int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken+n > r.limit {
		return r.taken + n - r.limit, false
	}
	r.taken += n
	return 0, true
}

// hold accounts for content found at start, limit or not.
func (r *room) hold(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken += n
}

// give returns n bytes.
func (r *room) give(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken -= n
	if r.taken < 0 {
		panic("BUG: more room given back than taken")
	}
}

// over returns by how much the limit is exceeded, which happens only when it was lowered between two runs.
func (r *room) over() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(0, r.taken-r.limit)
}

// reserveInLimit takes n bytes of the limit, evicting for them when needed.
func (c *Cache) reserveInLimit(n int64) error {
	if n > c.room.limit {
		return ErrNoRoom
	}
	if _, ok := c.room.take(n); ok {
		return nil
	}
	c.evicting.Lock() // who waited here may find room that somebody else has made meanwhile
	defer c.evicting.Unlock()
	for {
		short, ok := c.room.take(n)
		if ok {
			return nil
		}
		if !c.evict(short) {
			return ErrNoRoom
		}
	}
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

// victim is content that is to be removed.
type victim struct {
	digest oci.Digest
	entry  *entry
}

// evict makes at least need bytes of room if it can: first what failed fills have left, then what the policy chooses
// (policy.go), and last what is in quarantine. It makes a little more than was asked for, because choosing means looking at
// everything. It reports whether any room was made. The caller holds evicting.
func (c *Cache) evict(need int64) bool {
	freed := c.retryLeftovers()
	freed += c.dropParts(need - freed)
	if freed >= need {
		return true
	}
	slack := c.room.limit / 50
	freed += c.discardAll(c.coldest(need-freed+slack), c.index.takeUnpinned)
	if freed < need {
		freed += c.emptyQuarantine()
	}
	return freed > 0
}

// coldest returns the contents that the policy evicts for need bytes.
func (c *Cache) coldest(need int64) []victim {
	all := make([]Candidate[victim], 0, c.index.blobs.Load())
	c.index.eachUnpinned(func(d oci.Digest, e *entry) {
		all = append(all, Candidate[victim]{victim{d, e}, e.size, Use(e.use.Load())})
	})
	var victims []victim
	for _, chosen := range Coldest(all, need, c.room.limit) {
		victims = append(victims, chosen.Key)
	}
	return victims
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
		c.log.Warn("record of removed content stays; the next start takes it out", "error", err)
	}
	for _, d := range digests {
		c.memory.drop(d)
	}
	return taken
}
