package mirror

import (
	"sync"
	"sync/atomic"
	"time"
)

// memoLimit bounds a memo: strangers choose its keys.
const memoLimit = 50_000

// memo remembers keys for a while, in memory. It may forget early, so nothing may depend on it but speed and quiet.
type memo[K comparable] struct {
	mu    sync.RWMutex
	until map[K]time.Time
}

func newMemo[K comparable]() *memo[K] { return &memo[K]{until: make(map[K]time.Time)} }

// add remembers key for d.
func (m *memo[K]) add(key K, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if len(m.until) >= memoLimit {
		m.sweepLocked(now)
	}
	m.until[key] = now.Add(d)
}

// sweepLocked forgets what is over and, when that is not enough, half of the rest, whichever.
func (m *memo[K]) sweepLocked(now time.Time) {
	for key, until := range m.until {
		if until.Before(now) {
			delete(m.until, key)
		}
	}
	for key := range m.until {
		if len(m.until) <= memoLimit/2 {
			return
		}
		delete(m.until, key)
	}
}

// state reports whether key is remembered at all (over or not, until it is swept) and whether its time still runs.
func (m *memo[K]) state(key K) (known, running bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	until, known := m.until[key]
	return known, known && time.Now().Before(until)
}

func (m *memo[K]) has(key K) bool {
	_, running := m.state(key)
	return running
}

func (m *memo[K]) forget(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.until, key)
}

// throttle lets one warning through per period.
type throttle struct {
	every time.Duration
	last  atomic.Int64
	held  atomic.Int64
}

// pass reports whether a warning may go out now, and how many were held back since the last one.
func (t *throttle) pass() (held int64, ok bool) {
	now, last := time.Now().UnixNano(), t.last.Load()
	if now-last < int64(t.every) || !t.last.CompareAndSwap(last, now) {
		t.held.Add(1)
		return 0, false
	}
	return t.held.Swap(0), true
}
