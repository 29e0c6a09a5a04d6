package origin

import (
	"context"
	"net"
	"sync"
	"time"
)

// Link is the way to a registry. The zero value is an open link.
type Link struct {
	// Latency passes before each answer.
	Latency time.Duration
	// Each and All bound a connection and all of them together, in bytes per second; zero is no bound.
	Each, All int64
}

// open reports whether the link lets bytes pass as fast as they come.
func (l Link) open() bool { return l.Each == 0 && l.All == 0 }

// pace lets bytes pass at a rate.
type pace struct {
	mu   sync.Mutex
	free time.Time // when the next bytes may pass
}

// burst is how far a pace may fall behind before what it missed is lost: timers are late by less.
const burst = 20 * time.Millisecond

// book takes the time that n bytes need at a rate, and returns when they may have passed.
func (p *pace) book(n int64, rate int64) time.Time {
	if rate == 0 {
		return time.Time{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if behind := time.Now().Add(-burst); p.free.Before(behind) {
		p.free = behind
	}
	p.free = p.free.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return p.free
}

type connection struct{}

// withPace gives each connection a pace of its own, and a small buffer: what waits in the kernel would count as sent.
func withPace(ctx context.Context, c net.Conn) context.Context {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(256 << 10) // a larger one makes the counts less exact, no more
	}
	return context.WithValue(ctx, connection{}, new(pace))
}

func paceOf(ctx context.Context) *pace {
	own, _ := ctx.Value(connection{}).(*pace)
	return own
}
