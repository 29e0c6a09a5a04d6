package upstream

import (
	"net/http"
	"sync/atomic"
	"time"
)

// probeEvery is how often an endpoint that is not in use is asked how fast it is. One that is down has the pauses of its
// breaker.
const probeEvery = 10 * time.Second

// probing keeps the probes of one endpoint apart.
type probing struct {
	busy atomic.Bool
	last atomic.Int64 // when one began, in nanoseconds since 1970
}

// due reports whether an endpoint that is not down may be probed again.
func (p *probing) due(now time.Time) bool {
	return !lasts(p.last.Load()+int64(probeEvery), now, probeEvery)
}

// begin reports whether a probe may start, which none does while another is out. end is called when it is over.
func (p *probing) begin(now time.Time) bool {
	if !p.busy.CompareAndSwap(false, true) {
		return false
	}
	p.last.Store(now.UnixNano())
	return true
}

func (p *probing) end() { p.busy.Store(false) }

// startProbe lets one request in the background find out how an endpoint is doing.
func (r *Registry) startProbe(e *endpoint, c call) {
	if r.life.Err() != nil || !e.probing.begin(time.Now()) {
		return
	}
	go func() {
		defer e.probing.end()
		r.probe(e, r.probeCall(c))
	}()
}

// probeCall asks for as little as can be compared with the call: the headers of the same thing, or the root.
func (r *Registry) probeCall(c call) call {
	if c.kind != kindManifest && c.kind != kindBlob || r.noHead.noted() {
		return call{kind: kindPing, method: http.MethodHead, path: "/v2/", background: true}
	}
	return call{
		kind: c.kind, method: http.MethodHead, repository: c.repository, path: c.path, accept: c.accept, stay: true, background: true,
	}
}

// probe asks within the limits. What comes of it is in the endpoint's breaker and pace.
func (r *Registry) probe(e *endpoint, c call) {
	release, err := r.limits.Load().connections.take(r.life, r.times.probe)
	if err != nil {
		return // everything is in use: the next call starts another probe
	}
	defer release()
	a, err := r.try(r.life, e, r.accountsFor(e)[0], c, time.Now().Add(r.times.header))
	if err != nil {
		return // the breaker has been told
	}
	a.release = func() {}
	_ = a.Close() // an answer to HEAD has no body
}
