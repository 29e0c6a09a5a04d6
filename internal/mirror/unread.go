package mirror

import (
	"sync"
	"sync/atomic"
	"time"

	"mirror/internal/oci"
)

const (
	// unreadFor is how long content that was fetched ahead is watched. What is asked for later than that is asked for by
	// somebody else.
	unreadFor = time.Hour
	// maxUnread bounds how much is watched at a time.
	maxUnread = 10_000
)

// unread is the content that was fetched ahead and that no client has asked for yet. It is there to be counted.
type unread struct {
	metrics *metrics
	some    atomic.Int64 // how much there is: most hits have nothing to look for

	mu    sync.Mutex // guards watch
	watch map[oci.Digest]*expected
}

// expected is content that a client will ask for, if the guess was right.
type expected struct {
	since    time.Time
	registry string
	size     int64 // in bytes; -1 before the upstream has answered
	asked    bool
}

func newUnread(m *metrics) *unread { return &unread{metrics: m, watch: make(map[oci.Digest]*expected)} }

// expect begins to watch content whose fill is about to begin. It reports false when that is under way already, or was
// lately without anybody asking, so that nothing is fetched ahead twice for nobody; and when there is too much.
func (u *unread) expect(d oci.Digest) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if e := u.watch[d]; e != nil && now.Sub(e.since) < unreadFor || !u.makeRoomLocked(now) {
		return false
	}
	u.watch[d] = &expected{since: now, size: -1}
	u.some.Store(int64(len(u.watch)))
	return true
}

func (u *unread) makeRoomLocked(now time.Time) bool {
	if len(u.watch) < maxUnread {
		return true
	}
	for d, e := range u.watch {
		if now.Sub(e.since) >= unreadFor {
			delete(u.watch, d)
		}
	}
	return len(u.watch) < maxUnread
}

// came notes that the upstream has answered, and counts the content.
func (u *unread) came(d oci.Digest, registry string, size int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.metrics.prefetched.WithLabelValues(registry).Add(float64(size))
	if e := u.watch[d]; e != nil {
		e.registry, e.size = registry, size
		u.settleLocked(d, e)
	}
}

// asked notes that a client has asked for content.
func (u *unread) asked(d oci.Digest) {
	if u.some.Load() == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	e := u.watch[d]
	switch {
	case e == nil:
	case time.Since(e.since) >= unreadFor:
		u.forgetLocked(d)
	default:
		e.asked = true
		u.settleLocked(d, e)
	}
}

// settleLocked counts content that is both: here for nobody, and asked for.
func (u *unread) settleLocked(d oci.Digest, e *expected) {
	if e.asked && e.size >= 0 {
		u.metrics.prefetchUsed.WithLabelValues(e.registry).Add(float64(e.size))
		u.forgetLocked(d)
	}
}

// forget ends watching.
func (u *unread) forget(d oci.Digest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.forgetLocked(d)
}

func (u *unread) forgetLocked(d oci.Digest) {
	delete(u.watch, d)
	u.some.Store(int64(len(u.watch)))
}
