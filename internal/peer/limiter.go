package peer

import (
	"sync"
	"time"
)

// limiter lets one line of each kind through in a while, and counts the others. Kinds are a fixed set.
type limiter struct {
	every time.Duration
	mu    sync.Mutex
	kinds map[string]*silence
}

// silence is the time after a line in which no other of its kind is written.
type silence struct {
	until   time.Time
	dropped int
}

func newLimiter(every time.Duration) *limiter {
	return &limiter{every: every, kinds: map[string]*silence{}}
}

// allow tells whether a line may be written, and how many of its kind were not since the last one.
func (l *limiter) allow(kind string) (dropped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.kinds[kind]
	if s == nil {
		s = &silence{}
		l.kinds[kind] = s
	}
	now := time.Now()
	if now.Before(s.until) {
		s.dropped++
		return 0, false
	}
	dropped, s.dropped, s.until = s.dropped, 0, now.Add(l.every)
	return dropped, true
}
