package mirror

import (
	"sync"
	"sync/atomic"
	"time"
)

// memoLimit bounds a memo: strangers choose its keys.
const memoLimit = 50_000

// memo remembers something of keys for a while, in memory. It may forget early, so nothing may depend on it but speed and
// quiet.
type memo[K comparable, V any] struct {
	mu    sync.RWMutex
	notes map[K]note[V]
}

type note[V any] struct {
	value V
	until time.Time
}

func newMemo[K comparable, V any]() *memo[K, V] { return &memo[K, V]{notes: make(map[K]note[V])} }

// add remembers value of key for d.
func (m *memo[K, V]) add(key K, value V, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if len(m.notes) >= memoLimit {
		m.sweepLocked(now)
	}
	m.notes[key] = note[V]{value, now.Add(d)}
}

// sweepLocked forgets what is over and, when that is not enough, half of the rest, whichever.
func (m *memo[K, V]) sweepLocked(now time.Time) {
	for key, n := range m.notes {
		if n.until.Before(now) {
			delete(m.notes, key)
		}
	}
	for key := range m.notes {
		if len(m.notes) <= memoLimit/2 {
			return
		}
		delete(m.notes, key)
	}
}

// state reports whether key is remembered at all (over or not, until it is swept) and whether its time still runs.
func (m *memo[K, V]) state(key K) (known, running bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, known := m.notes[key]
	return known, known && time.Now().Before(n.until)
}

// get returns what is remembered of key while its time runs.
func (m *memo[K, V]) get(key K) (value V, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if n, known := m.notes[key]; known && time.Now().Before(n.until) {
		return n.value, true
	}
	return value, false
}

func (m *memo[K, V]) has(key K) bool {
	_, running := m.state(key)
	return running
}

func (m *memo[K, V]) forget(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.notes, key)
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
	since := time.Duration(now - last) // negative when the clock was set back
	if 0 <= since && since < t.every || !t.last.CompareAndSwap(last, now) {
		t.held.Add(1)
		return 0, false
	}
	return t.held.Swap(0), true
}
