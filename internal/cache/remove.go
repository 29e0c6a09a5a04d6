package cache

import (
	"slices"

	"mirror/internal/oci"
)

// Remove removes complete content, pinned or not; its room is free at once. It reports whether the content was there. A
// running fill is not disturbed, and a pin stays. After Close nothing is removed: the directory may be somebody else's.
func (c *Cache) Remove(d oci.Digest) bool {
	removed, _ := c.RemoveAll([]oci.Digest{d})
	return len(removed) > 0
}

// RemoveAll is Remove for many contents, of which each costs a small part of what it costs alone: they share the
// transactions of the index. It returns those that were there, and the bytes of room that are free now. A crash leaves some
// removed and some not.
func (c *Cache) RemoveAll(digests []oci.Digest) (removed []oci.Digest, freed int64) {
	take := func(d oci.Digest, e *entry) bool {
		if !c.index.take(d, e) {
			return false
		}
		removed = append(removed, d)
		return true
	}
	for step := range slices.Chunk(digests, evictAtOnce) {
		freed += c.removeStep(step, take)
	}
	return removed, freed
}

// removeStep removes as many contents as stores and Close can wait for.
func (c *Cache) removeStep(digests []oci.Digest, take func(oci.Digest, *entry) bool) (freed int64) {
	c.closing.RLock()
	defer c.closing.RUnlock()
	if c.closed {
		return 0
	}
	var victims []victim
	for _, d := range digests {
		if e, _ := c.index.find(d); e != nil {
			victims = append(victims, victim{digest: d, entry: e})
		}
	}
	return c.discardAll(victims, take)
}
