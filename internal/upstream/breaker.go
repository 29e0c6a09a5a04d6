package upstream

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

// The breaker's numbers: an upstream that is down may cost one client some seconds, not every client, and is noticed
// within half a minute of its return.
const (
	breakerThreshold = 3                // consecutive failures that open it; a timeout opens it at once
	breakerFirst     = 5 * time.Second  // how long it stays open the first time
	breakerLongest   = 30 * time.Second // the doubling ends here
)

// breakerState is what a breaker does with requests.
type breakerState uint8

const (
	breakerClosed  breakerState = iota // all go through
	breakerOpen                        // none goes through until the pause is over
	breakerProbing                     // the pause is over and one request is finding out
)

// String returns the word that Health shows.
func (s breakerState) String() string { return [...]string{"closed", "open", "probing"}[s] }

// breaker keeps requests away from an endpoint that fails. It costs a mutex per request, which is nothing beside the
// request.
type breaker struct {
	mu       sync.Mutex
	state    breakerState
	failures int           // consecutive, while closed
	path     string        // of the last failure that was an answer
	pause    time.Duration // how long it is open this time
	since    time.Time     // when the state was entered
	last     error         // what opened it
	// onChange is told when the breaker opens and when it closes again, outside the lock.
	onChange func(open bool, pause time.Duration, cause error)
}

func newBreaker(onChange func(open bool, pause time.Duration, cause error)) *breaker {
	return &breaker{since: time.Now(), onChange: onChange}
}

// ticket is the permission to send one request. Exactly one of its methods is called when the request is over.
type ticket struct {
	breaker *breaker
	probe   bool
}

// admit asks to send a request. Without permission it returns how long until it is worth asking again, and why.
func (b *breaker) admit() (t ticket, wait time.Duration, cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state {
	case breakerClosed:
		return ticket{breaker: b}, 0, nil
	case breakerOpen:
		if wait = time.Until(b.since.Add(b.pause)); wait > 0 {
			return ticket{}, wait, b.last
		}
		b.enter(breakerProbing)
		return ticket{breaker: b, probe: true}, 0, nil
	}
	// A probe is out. It ends within the time a request has to its first header; a second is a fair guess.
	return ticket{}, time.Second, b.last
}

// ready reports whether admit would give a ticket.
func (b *breaker) ready() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state == breakerClosed || b.state == breakerOpen && time.Since(b.since) >= b.pause
}

// down reports whether the endpoint failed and has not answered since.
func (b *breaker) down() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state != breakerClosed
}

// enter changes the state. The caller holds the lock.
func (b *breaker) enter(s breakerState) { b.state, b.since = s, time.Now() }

// succeeded records an answer. An answer to a request that was sent before the breaker opened closes it too: the
// endpoint is there.
func (t ticket) succeeded() {
	b := t.breaker
	b.mu.Lock()
	wasClosed := b.state == breakerClosed
	b.failures, b.path = 0, ""
	if !wasClosed {
		b.enter(breakerClosed)
		b.pause, b.last = 0, nil
	}
	b.mu.Unlock()
	if !wasClosed {
		b.onChange(false, 0, nil)
	}
}

// failed records that there was no usable answer. A timeout opens the breaker at once, since each more would cost a
// client as long again; other failures are cheap and open it when they repeat. A caller that was in a hurry is one of
// those: the endpoint may only be slow. An endpoint that answers has trouble with the path that was asked for, and
// counts as failing when it has trouble with several.
func (t ticket) failed(path string, cause error) {
	b := t.breaker
	b.mu.Lock()
	opens := false
	switch {
	case t.probe && b.state == breakerProbing:
		b.pause = min(2*b.pause, breakerLongest)
		opens = true
	case b.state == breakerClosed && answers(cause, path) && path == b.path:
	case b.state == breakerClosed:
		if answers(cause, path) {
			b.path = path
		}
		b.failures++
		b.pause = breakerFirst
		opens = b.failures >= breakerThreshold || errors.Is(cause, ErrTimeout) && !errors.Is(cause, context.DeadlineExceeded)
	}
	// In the remaining case this request was sent before the breaker opened, and tells nothing new.
	repeated := t.probe
	if opens {
		b.last, b.failures = cause, 0
		b.enter(breakerOpen)
	}
	pause := b.pause
	b.mu.Unlock()
	if opens && !repeated {
		b.onChange(true, pause, cause)
	}
}

// answers reports whether the failure is an answer of the endpoint itself to a request for path, and not one of the token
// service before it.
func answers(failure error, path string) bool {
	status, ok := errors.AsType[*StatusError](failure)
	return ok && strings.HasSuffix(status.URL, path)
}

// abandoned records that the client went away before there was anything to learn. A probe's place is free again.
func (t ticket) abandoned() {
	b := t.breaker
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.probe && b.state == breakerProbing {
		b.enter(breakerOpen)
		b.since = b.since.Add(-b.pause) // the pause is over already
	}
}

// snapshot returns what Health shows.
func (b *breaker) snapshot() (state breakerState, since time.Time, last error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state, b.since, b.last
}
