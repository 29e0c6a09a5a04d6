package cache

import "sync"

// room accounts for the bytes of the disk tier: complete content, partial content, damaged content in quarantine, and what
// running fills have reserved.
// The sum never exceeds the limit.
type room struct {
	limit int64
	// ahead is how much of the limit an eviction in the background keeps free, and at most twice that, so that a fill finds
	// room without waiting for one (evict.go).
	ahead int64
	// pressed gets a value when less than ahead is free.
	pressed chan struct{}

	mu    sync.Mutex // guards taken
	taken int64
}

const (
	// aheadShare is the part of the limit, as a divisor, that is kept free: some layers in a cache of some gigabytes.
	aheadShare = 50
	// aheadFrom is the smallest limit for which anything is kept free: a fiftieth of less holds no layer, and to choose among
	// what fits costs nothing.
	aheadFrom = 1 << 30
	// aheadMost bounds it to what a fast line brings in some seconds.
	aheadMost = 16 << 30
)

func newRoom(limit int64) *room {
	r := &room{limit: limit, pressed: make(chan struct{}, 1)}
	if limit >= aheadFrom {
		r.ahead = min(limit/aheadShare, aheadMost)
	}
	return r
}

// take reserves n bytes and reports whether there was room; short is how much was lacking.
func (r *room) take(n int64) (short int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken+n > r.limit {
		return r.taken + n - r.limit, false
	}
	r.taken += n
	if r.ahead > 0 && r.limit-r.taken < r.ahead {
		select {
		case r.pressed <- struct{}{}:
		default: // it knows
		}
	}
	return 0, true
}

// lacking returns how much more has to be free for the eviction in the background to rest.
func (r *room) lacking() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken + 2*r.ahead - r.limit
}

// pressedBy returns how much would be evicted, in the end, for n bytes more: nothing as long as what is kept free stays free.
func (r *room) pressedBy(n int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken+n+r.ahead <= r.limit {
		return 0
	}
	return r.taken + n + 2*r.ahead - r.limit
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

// reserveInLimit takes n bytes of the limit, evicting for them when needed. It fails with ErrNoRoom when there
// is not so much beside the pins and the running fills, before anything is evicted in vain, or when nothing more can be.
func (c *Cache) reserveInLimit(n int64) error {
	if n > c.room.limit-c.index.pinnedBytes.Load() {
		c.warnOfPins(n)
		return ErrNoRoom
	}
	if _, ok := c.room.take(n); ok {
		return nil
	}
	c.evicting.Lock() // who waited here may find room that somebody else has made meanwhile
	defer c.evicting.Unlock()
	beside := c.room.limit - c.index.pinnedBytes.Load() - c.filling()
	for {
		short, ok := c.room.take(n)
		if ok {
			return nil
		}
		if n > beside || !c.evict(short) {
			c.warnOfPins(n)
			return ErrNoRoom
		}
	}
}
