package upstream

import "time"

// Health says how an upstream is doing.
type Health struct {
	Registry  string
	Available bool
	// Offline tells that the configuration keeps the upstream from being asked.
	Offline   bool
	Endpoints []EndpointHealth
	// RateLimitRemaining is the last number of requests that the upstream said are left, or -1 when it never did.
	RateLimitRemaining int
}

// EndpointHealth says how one endpoint is doing.
type EndpointHealth struct {
	URL string // without user information
	// State is "closed" (requests flow), "open" (left alone) or "probing" (one request is trying it).
	State string
	Since time.Time
	// LastError is the failure that opened the breaker, empty while it is closed.
	LastError string
	// Headers is the smoothed time that its answers take to their first header; zero before the first.
	Headers time.Duration
	// Slow: it takes much longer than another endpoint, which is asked before it.
	Slow bool
}

// Health returns how the upstream is doing, from memory.
func (r *Registry) Health() Health {
	h := Health{Registry: r.name, Available: r.Available(), Offline: r.Offline(), RateLimitRemaining: int(r.remaining.Load())}
	for _, e := range r.endpoints {
		state, since, last := e.breaker.snapshot()
		endpoint := EndpointHealth{URL: redactedURL(e.url), State: state.String(), Since: since}
		endpoint.Headers, endpoint.Slow = e.pace.snapshot()
		if last != nil {
			endpoint.LastError = last.Error()
		}
		h.Endpoints = append(h.Endpoints, endpoint)
	}
	return h
}
