package cache

import (
	"time"

	"mirror/internal/oci"
)

// Content is what the cache knows of complete content.
type Content struct {
	Digest oci.Digest
	Size   int64 // bytes
	// Stored is when the content came into the cache, or was found in it without a record, to the second.
	Stored time.Time
	// Used is when it was last asked for, to the minute: a burst of hits counts as its first. What was never asked for
	// again was last used when it was stored. A crash loses up to a minute of it.
	Used time.Time
	// Pinned content is never evicted.
	Pinned bool
}

// Contents calls visit for all complete content, in no order and outside of every lock. It sees content that is stored or
// removed meanwhile or not, and nothing twice. It costs memory for one part in 256 of what is stored.
func (c *Cache) Contents(visit func(Content)) {
	for i := range c.index.shards {
		for _, content := range c.index.shards[i].inspect() {
			visit(content)
		}
	}
}

// Content returns what is known of complete content, without opening it or counting as a use, and whether there is any.
func (c *Cache) Content(d oci.Digest) (Content, bool) {
	s := c.index.shard(d)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.entryLocked(d)
	if e == nil {
		return Content{}, false
	}
	return s.describeLocked(d, e), true
}

// inspect returns the complete content of a shard as it is now.
func (s *shard) inspect() []Content {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]Content, 0, s.entries.Len())
	for d, e := range s.entries.All() {
		all = append(all, s.describeLocked(d, e))
	}
	return all
}

func (s *shard) describeLocked(d oci.Digest, e *entry) Content {
	return Content{
		Digest: d, Size: e.size, Stored: time.Unix(int64(e.stored), 0), Used: time.Unix(Use(e.use.Load()).At(), 0), Pinned: s.pinnedLocked(d),
	}
}
