package upstream

import (
	"sync"
	"time"
)

// The numbers of the comparison between endpoints. An endpoint must be slower by a factor that no noise reaches to move
// behind, and nearly as fast as the others to come back, so that two that are alike never change places.
const (
	paceWeight  = 0.25                   // of the latest measurement in the smoothed one
	paceSamples = 3                      // measurements before an endpoint is called slow; the first has the handshakes in it
	paceLife    = 5 * time.Minute        // how long the last measurement of another endpoint counts
	slowFactor  = 3                      // slower than this times the fastest, and
	slowLeast   = 250 * time.Millisecond // by this much: nobody notices less
	wellFactor  = 1.5                    // back when faster than this times the fastest, or
	wellLeast   = 100 * time.Millisecond // within this of it
)

// pace is how long an endpoint takes to the headers of its own answers, smoothed. Tokens and redirects are not in it. The
// methods may be called from any goroutine.
type pace struct {
	mu       sync.Mutex
	smoothed time.Duration
	samples  int
	last     time.Time
	slow     bool
}

// add takes in a measurement. An answer that was not waited for counts with the time that was spent on it.
func (p *pace) add(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	p.samples++
	if p.samples == 1 {
		p.smoothed = took
		return
	}
	p.smoothed += time.Duration(paceWeight * float64(took-p.smoothed))
}

// known returns the smoothed time while it is worth something.
func (p *pace) known() (smoothed time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.smoothed, p.samples > 0 && time.Since(p.last) < paceLife
}

// compare judges the endpoint by the fastest of the others, zero when nothing is known of them, and reports whether it is
// much slower.
func (p *pace) compare(fastest time.Duration) (slow bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	by, factor := p.smoothed-fastest, float64(p.smoothed)/max(1, float64(fastest))
	switch {
	case fastest == 0, by < wellLeast, factor < wellFactor:
		p.slow = false
	case p.samples >= paceSamples && by > slowLeast && factor > slowFactor:
		p.slow = true
	}
	return p.slow
}

// suspicious reports whether it is worth while to know how fast the others are.
func (p *pace) suspicious() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.samples >= paceSamples && p.smoothed > slowLeast
}

// snapshot returns what Health shows.
func (p *pace) snapshot() (smoothed time.Duration, slow bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.smoothed, p.slow
}
