package peer

import (
	"sync"
	"time"
)

const (
	// memorySpan is how long a request is remembered at least, the time in which it could be accepted a second time: from
	// maxSkew before the receiver's clock to maxSkew after it.
	memorySpan = 2 * maxSkew
	// memoryLimit bounds the requests of one generation: 2,184 a second for two minutes, where a node whose chunks are
	// wanted by 5,000 others at the same time was asked 5,000 times in two seconds. Two generations of them take 10 MB.
	memoryLimit = 1 << 18
)

// memory remembers the requests that were accepted, so that none is accepted twice. Only requests with a right signature
// come here: nobody without the secret can fill it.
//
// It is two generations, of which the younger takes new requests and the older is forgotten as a whole. When the younger
// is full, requests are refused until it is old. To forget early instead would let in the replays that it is for; to
// accept without remembering would too. An asker that is refused goes to the next rank, as with any member that is
// too busy.
type memory struct {
	mu    sync.Mutex
	young map[uint64]struct{}
	old   map[uint64]struct{}
	since time.Time // begin of the younger generation
	limit int       // memoryLimit when 0; set by tests before the first use
}

// add remembers a request by the first bytes of its signature, which are as good as random. The error is ErrReplayed or
// ErrCrowded.
func (m *memory) add(request uint64, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.age(now)
	if has(m.young, request) || has(m.old, request) {
		return ErrReplayed
	}
	if len(m.young) >= m.bound() {
		return ErrCrowded
	}
	m.young[request] = struct{}{}
	return nil
}

// age makes the younger generation the older one when its time is over, and forgets both after twice that.
func (m *memory) age(now time.Time) {
	passed := now.Sub(m.since)
	if m.young != nil && passed < memorySpan {
		return
	}
	m.old = m.young
	if passed >= 2*memorySpan {
		m.old = nil
	}
	m.young = make(map[uint64]struct{}, len(m.old))
	m.since = now
}

func (m *memory) bound() int {
	if m.limit > 0 {
		return m.limit
	}
	return memoryLimit
}

func has(set map[uint64]struct{}, request uint64) bool {
	_, ok := set[request]
	return ok
}
