package main

import (
	"iter"

	"mirror/internal/cache"
)

// ahead is the part of the limit, as a divisor, that the cache keeps free, and at most twice that.
const ahead = 50

// ours is the policy of the cache, in batches as the cache evicts.
type ours struct {
	limit, bytes int64
	known        map[int]kept
}

// kept is content in the cache.
type kept struct {
	size int64
	use  cache.Use
}

func newOurs(limit int64) policy { return &ours{limit: limit, known: map[int]kept{}} }

func (o *ours) use(b blob, now int64) bool {
	k, ok := o.known[b.id]
	if ok {
		o.known[b.id] = kept{k.size, k.use.Again(now)}
		return true
	}
	if lacking := o.bytes + b.size + o.limit/ahead - o.limit; lacking > 0 {
		o.evict(lacking+o.limit/ahead, now)
	}
	o.known[b.id] = kept{b.size, cache.FirstUse(now)}
	o.bytes += b.size
	return false
}

func (o *ours) evict(need, now int64) {
	for _, c := range cache.Coldest(o.candidates(), need, o.limit, now) {
		delete(o.known, c.Key)
		o.bytes -= c.Size
	}
}

func (o *ours) candidates() iter.Seq[cache.Candidate[int]] {
	return func(yield func(cache.Candidate[int]) bool) {
		for id, k := range o.known {
			if !yield(cache.Candidate[int]{Key: id, Size: k.size, Use: k.use}) {
				return
			}
		}
	}
}
