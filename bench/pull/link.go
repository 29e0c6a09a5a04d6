package main

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// link is the way to the registry: a latency before each answer, a rate for each connection and one for all together, in
// bytes per second; zero is no bound.
type link struct {
	latency   time.Duration
	each, all int64
	whole     pace
}

// pace lets bytes pass at a rate.
type pace struct {
	mu   sync.Mutex
	free time.Time // when the next bytes may pass
}

// burst is how far a pace may fall behind before what it missed is lost: timers are late by less.
const burst = 20 * time.Millisecond

// book takes the time that n bytes need at a rate, and returns when they may have passed.
func (p *pace) book(n int, rate int64) time.Time {
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

// withPace gives each connection a pace of its own.
func withPace(ctx context.Context) context.Context {
	return context.WithValue(ctx, connection{}, new(pace))
}

// send writes content at the rates of the link, and counts what it has written.
func (l *link) send(w io.Writer, r *http.Request, content []byte, sent *atomic.Int64) {
	own := r.Context().Value(connection{}).(*pace)
	const step = 64 << 10
	for len(content) > 0 {
		n, err := w.Write(content[:min(step, len(content))])
		sent.Add(int64(n))
		if err != nil {
			return
		}
		content = content[n:]
		until := own.book(n, l.each)
		if all := l.whole.book(n, l.all); all.After(until) {
			until = all
		}
		time.Sleep(time.Until(until))
	}
}
