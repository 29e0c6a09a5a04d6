package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// The pauses after a 429. Registries have two kinds of it: the pull limit, which comes with numbers or a time, and a limit
// against abuse, which comes with nothing and ends soon.
const (
	// firstPause is how long an upstream that names no time is left alone the first time; it doubles up to longestUnsaid.
	firstPause    = 5 * time.Second
	longestUnsaid = time.Minute
	// longestPause bounds what an upstream can ask for. After it one request finds out.
	longestPause = longestRetryAfter
	// probeTime is how long the one request after a pause has, until another may try.
	probeTime = 5 * time.Second
)

// class is a kind of requests that registries limit by itself. The pull limit of Docker Hub is one of manifests; blobs
// of images whose manifests have come must come too.
type class uint8

const (
	documents class = iota // manifests and lists
	blobs
	classes
)

// classOf returns the class of requests of a kind.
func classOf(k kind) class {
	if k == kindBlob {
		return blobs
	}
	return documents
}

// allowance is what is known of the rate limit of one account at one endpoint. The methods may be called from any
// goroutine.
type allowance struct {
	mu     sync.Mutex
	last   quota
	told   time.Time // when last was told; zero means never
	pauses [classes]halt
}

// halt is a time without requests of one class.
type halt struct {
	until   time.Time     // zero while requests flow
	named   bool          // the upstream said how long
	unsaid  time.Duration // the last pause for which it did not
	probing bool          // the pause is over and one request is finding out
}

// forget lets requests through at once: the limit was that of other credentials, or the operator wants to know.
func (a *allowance) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last, a.told, a.pauses = quota{}, time.Time{}, [classes]halt{}
}

// running reports whether nothing may be sent, not even to find out.
func (p *halt) running(now time.Time) bool { return !p.probing && now.Before(p.until) }

// observe takes in the headers of an answer.
func (a *allowance) observe(header http.Header) (quota, bool) {
	now := time.Now()
	q, ok := readQuota(header, now)
	if !ok {
		return quota{}, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last, a.told = q, now
	return q, true
}

// admit asks to send a request. When it must not be sent, wait says for how long, and whether the upstream named that.
func (a *allowance) admit(c class) (wait time.Duration, named, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, now := &a.pauses[c], time.Now()
	switch {
	case p.until.IsZero():
		return 0, false, true
	case now.Before(p.until):
		return p.until.Sub(now), p.named, false
	}
	p.probing, p.until = true, now.Add(probeTime)
	return 0, false, true
}

// answered notes that a request of the class went through, which ends a pause, unless it was sent before that began.
func (a *allowance) answered(c class) (ended bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := &a.pauses[c]
	if p.until.IsZero() || p.running(time.Now()) {
		return false
	}
	*p = halt{}
	return true
}

// limited begins a pause after a 429. asked is what the upstream named, zero for nothing. It returns how long the pause
// is, and whether it is a new one rather than another's request that was limited at the same time.
func (a *allowance) limited(c class, asked time.Duration) (length time.Duration, begun bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, now := &a.pauses[c], time.Now()
	begun = p.until.IsZero()
	switch {
	case asked > 0:
		length, p.unsaid = min(asked, longestPause), 0
	case p.running(now):
		return p.until.Sub(now), false // it was sent before the pause began
	default:
		p.unsaid = min(max(2*p.unsaid, firstPause), longestUnsaid)
		length = p.unsaid
	}
	p.until, p.named, p.probing = now.Add(length), asked > 0, false
	return length, begun
}

// errPaused: the upstream's rate limit; nothing was sent.
var errPaused = fmt.Errorf("%w: the upstream's rate limit is used up", ErrTooManyRequests)

// admit asks whether the account's rate limit at the endpoint lets the call through.
func (r *Registry) admit(e *endpoint, a *account, c call) error {
	wait, named, ok := e.allowances[a.place].admit(classOf(c.kind))
	if ok {
		return nil
	}
	if !named {
		wait = 0
	}
	return fmt.Errorf("%s %s%s: %w", c.method, redactedURL(e.url), c.path, &PauseError{RetryAfter: wait, reason: errPaused})
}

// observe takes in what an endpoint's answer says about its rate limit.
func (r *Registry) observe(e *endpoint, a *account, header http.Header) {
	if q, ok := e.allowances[a.place].observe(header); ok {
		r.remaining.Store(q.remaining)
		r.metrics.left(q.remaining)
	}
}

// settleAllowance notes what the end of a call means for the rate limit.
func (r *Registry) settleAllowance(e *endpoint, a *account, c call, err error) {
	status, hasStatus := errors.AsType[*StatusError](err)
	switch {
	case hasStatus && status.Status == http.StatusTooManyRequests && status.RetryAfter == 0 && c.extra && !aboutToken(err, c):
		// This was one connection too many, most likely. The others must go on, and so must everybody else. Who has sent it
		// does not insist.
	case hasStatus && status.Status == http.StatusTooManyRequests:
		for _, limited := range classesOf(err, c) {
			r.limited(e, a, limited, status)
		}
	case err == nil || hasStatus && answers(err, c.path):
		if e.allowances[a.place].answered(classOf(c.kind)) {
			r.log.Info("requests to " + r.asWho(e, a) + " are within the rate limit again")
		}
	}
}

// classesOf returns what a 429 is about: requests of the call's class, but a token service that refuses is in the way of
// everything.
func classesOf(err error, c call) []class {
	if aboutToken(err, c) {
		return []class{documents, blobs}
	}
	return []class{classOf(c.kind)}
}

// aboutToken reports whether a failure of a call is that of the token service before it.
func aboutToken(err error, c call) bool {
	_, elsewhere := errors.AsType[hopError](err)
	return !elsewhere && !answers(err, c.path)
}

// limited begins a pause. One line tells of all the requests that it is about.
func (r *Registry) limited(e *endpoint, a *account, c class, status *StatusError) {
	length, begun := e.allowances[a.place].limited(c, status.RetryAfter)
	if begun {
		r.log.Warn("the rate limit of "+r.asWho(e, a)+" is used up: nothing of its kind is asked for a while, and what is held is served",
			"duration", length, "error", status)
	}
}

// asWho names an endpoint and, where there are several, the account.
func (r *Registry) asWho(e *endpoint, a *account) string {
	if len(r.accounts) == 1 {
		return redactedURL(e.url)
	}
	return redactedURL(e.url) + " for " + a.key
}
