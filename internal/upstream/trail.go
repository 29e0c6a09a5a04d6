package upstream

import (
	"net/url"
	"sync"
)

// trail is what the requests of one download have found out about the endpoints. All methods work on nil, which learns
// nothing, and may be called from any goroutine.
type trail struct {
	mu sync.Mutex
	// endpoint has pointed to url. Both are nil when none has, or when the place was no good any more.
	endpoint *endpoint
	url      *url.URL
	breaks   map[*endpoint]int
	found    bool
}

// remember keeps a place on another host that an endpoint has pointed to. The endpoint's own places are worth nothing
// without its authentication.
func (t *trail) remember(e *endpoint, at *url.URL) {
	if t == nil || sameHost(at, e.url) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endpoint, t.url = e, at
}

// of returns the place that the endpoint has pointed to, or nil.
func (t *trail) of(e *endpoint) *url.URL {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.endpoint != e {
		return nil
	}
	return t.url
}

// forget lets the next request ask the endpoint again, unless somebody has done so already.
func (t *trail) forget(at *url.URL) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.url == at {
		t.endpoint, t.url = nil, nil
	}
}

// reached notes that the content is there: an endpoint has begun to send it.
func (t *trail) reached() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.found = true
}

// exists reports whether any endpoint has begun to send the content.
func (t *trail) exists() bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.found
}

// blame notes that an endpoint has let the download down, so that another is asked first from now on.
func (t *trail) blame(e *endpoint) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.breaks == nil {
		t.breaks = map[*endpoint]int{}
	}
	t.breaks[e]++
}

// leave is blame for content that was no good, which also ends the use of the place that it came from.
func (t *trail) leave(e *endpoint) {
	t.blame(e)
	if at := t.of(e); at != nil {
		t.forget(at)
	}
}

// breaksOf returns how often an endpoint has let the download down.
func (t *trail) breaksOf(e *endpoint) int {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.breaks[e]
}
