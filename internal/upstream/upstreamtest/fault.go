package upstreamtest

import (
	"net/http"
	"slices"
	"time"

	"mirror/internal/oci"
)

// Fault is how a request goes wrong. Fields combine; the zero value changes nothing.
type Fault struct {
	// Delay is waited before the headers, and before Status.
	Delay time.Duration
	// Hang sends nothing at all until the client goes away.
	Hang bool
	// Status answers with this status, Header and Body instead of content.
	Status int
	Header http.Header
	Body   string
	// Redirect answers with status 307 and this Location.
	Redirect string
	// HTML answers 200 with a web page, as a login page in between would.
	HTML bool

	// The rest changes how content is sent.

	// Rate bounds the body in bytes per second.
	Rate int64
	// CutAfter closes the connection after so many body bytes, when greater than zero.
	CutAfter int64
	// StallAfter sends so many body bytes and then nothing more, when greater than zero.
	StallAfter int64
	// Flip changes the bytes at these offsets of the blob or manifest.
	Flip []int64
	// NoRange ignores the Range header and answers 200.
	NoRange bool
	// ContentRange is sent instead of the right one.
	ContentRange string
	// NoLength leaves Content-Length out.
	NoLength bool
	// NoDigest leaves Docker-Content-Digest and ETag out.
	NoDigest bool
	// Digest is claimed in Docker-Content-Digest instead of the right one.
	Digest string
	// ContentType is sent instead of the right one.
	ContentType string
	// Gzip sends the body packed, with Content-Encoding, though nobody asked for it.
	Gzip bool
	// Extra bytes are sent at the end, and counted in Content-Length.
	Extra int
}

// scriptedFault is a fault for the next requests of a kind.
type scriptedFault struct {
	kind   Kind
	method string
	times  int // left; negative means for ever
	fault  Fault
}

// Hook is asked for a fault before each request; nil means none. A hook counts before Fail.
func (r *Registry) Hook(hook func(*http.Request) *Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook = hook
}

// Fail lets the next n requests of a kind go wrong; n < 0 means all from now on. Several calls queue up.
func (r *Registry) Fail(kind Kind, n int, fault Fault) { r.FailMethod(kind, "", n, fault) }

// FailMethod is Fail for one method, such as HEAD.
func (r *Registry) FailMethod(kind Kind, method string, n int, fault Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scripted = append(r.scripted, &scriptedFault{kind: kind, method: method, times: n, fault: fault})
}

// Heal removes all faults and the hook.
func (r *Registry) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook, r.scripted = nil, nil
}

// faultFor returns the fault for a request, and uses it up.
func (r *Registry) faultFor(req *http.Request) Fault {
	r.mu.Lock()
	hook := r.hook
	r.mu.Unlock()
	// The hook runs without the lock, so that it may call any method.
	if hook != nil {
		if fault := hook(req); fault != nil {
			return *fault
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.scripted {
		if s.times != 0 && s.kind == KindOf(req) && (s.method == "" || s.method == req.Method) {
			s.times--
			return s.fault
		}
	}
	return Fault{}
}

// cuts breaks off everything that is being sent, again and again.
type cuts struct {
	every, sent int64 // every so many bytes, of which sent have been sent
	left, made  int
}

// CutAll breaks off every body that is being sent, on all connections at once, each time another so many bytes have been
// sent. It does so a number of times.
func (r *Registry) CutAll(every int64, times int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut.every, r.cut.sent, r.cut.left = every, 0, times
}

// count takes in bytes that were sent, and cuts when it is time. The caller holds the registry's lock.
func (c *cuts) count(n int64) {
	c.sent += n
	if c.left > 0 && c.sent >= c.every {
		c.sent, c.left, c.made = 0, c.left-1, c.made+1
	}
}

// cutsSoFar is how often everything was broken off.
func (r *Registry) cutsSoFar() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cut.made
}

// broken is a body that was broken off, with the bytes [start, end) of the content sent, and nobody has asked for the rest yet.
type broken struct{ start, end int64 }

// brokenOff notes a body that the registry has broken off.
func (r *Registry) brokenOff(d oci.Digest, start, end int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken[d] = append(r.broken[d], broken{int64(start), int64(end)})
}

// resumed notes a request for the content from start on. If it continues a body that was broken off, what it asks for again
// of that is lost.
func (r *Registry) resumed(d oci.Digest, start int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, b := range r.broken[d] {
		if b.start <= start && start <= b.end {
			r.lost[d] += b.end - start
			r.broken[d] = slices.Delete(r.broken[d], i, i+1)
			return
		}
	}
}

// Lost returns how many body bytes of a blob were sent before their connection was cut, and asked for again after that. It
// is what cuts have cost: Sent tells less of them, as a client that gives a slow connection's work to another one also
// leaves bytes that were on their way.
func (r *Registry) Lost(d oci.Digest) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost[d]
}
