package main

import "mirror/internal/cache"

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
	if lacking := o.bytes + b.size - o.limit; lacking > 0 {
		o.evict(lacking + o.limit/50)
	}
	o.known[b.id] = kept{b.size, cache.FirstUse(now)}
	o.bytes += b.size
	return false
}

func (o *ours) evict(need int64) {
	all := make([]cache.Candidate[int], 0, len(o.known))
	for id, k := range o.known {
		all = append(all, cache.Candidate[int]{Key: id, Size: k.size, Use: k.use})
	}
	for _, c := range cache.Coldest(all, need, o.limit) {
		delete(o.known, c.Key)
		o.bytes -= c.Size
	}
}
