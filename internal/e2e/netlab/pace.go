//go:build linux

package netlab

import (
	"sync"
	"time"
)

// burst is how far a pace may fall behind before what it missed is lost: timers are late by less.
const burst = 20 * time.Millisecond

// pace lets bytes pass at a rate. The zero value has none.
type pace struct {
	bytesPerSecond int64 // zero is no bound

	mu   sync.Mutex
	free time.Time // when the next bytes may pass
}

// book takes the time that n bytes need, and returns when they may have passed.
func (p *pace) book(n int) time.Time {
	if p.bytesPerSecond == 0 {
		return time.Time{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if behind := time.Now().Add(-burst); p.free.Before(behind) {
		p.free = behind
	}
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.bytesPerSecond) * float64(time.Second)))
	return p.free
}
