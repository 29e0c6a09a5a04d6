package admin

import (
	"time"

	"mirror/internal/mirror"
	"mirror/internal/upstream"
)

// UpstreamStatus is how an upstream is doing.
type UpstreamStatus struct {
	Registry  string `json:"registry"`
	Available bool   `json:"available"`
	Offline   bool   `json:"offline,omitempty"`
	// Requests counts what was sent since the start, to whomever the upstream pointed to included.
	Requests           int64            `json:"requests"`
	Traffic            TrafficStatus    `json:"traffic"`
	RateLimitRemaining *int             `json:"rate_limit_remaining,omitempty"`
	InFlight           UsageStatus      `json:"in_flight"` // requests, transfers of blobs included
	Transfers          UsageStatus      `json:"transfers"` // of blobs
	Prefetch           PrefetchStatus   `json:"prefetch"`
	Accounts           []AccountStatus  `json:"accounts"`
	Endpoints          []EndpointStatus `json:"endpoints"`
}

// UsageStatus says how much of a limit is used.
type UsageStatus struct {
	InUse   int `json:"in_use"`
	Waiting int `json:"waiting"`
	Limit   int `json:"limit"`
}

// PrefetchStatus is what is fetched before clients ask for it.
type PrefetchStatus struct {
	Enabled bool `json:"enabled"`
	Fills   int  `json:"fills"`   // that are running
	Planned int  `json:"planned"` // contents whose fill has not begun
	// Bytes counts what was fetched ahead since the start, and Used what of it clients have asked for.
	Bytes int64 `json:"bytes"`
	Used  int64 `json:"used"`
}

// AccountStatus is how the mirror is signed in, and what the upstream grants that account.
type AccountStatus struct {
	Key       string `json:"key"` // of the configuration, relative to the upstream
	Anonymous bool   `json:"anonymous,omitempty"`
	// AsideUntil is until when the account is left out because it was refused.
	AsideUntil time.Time         `json:"aside_until,omitzero"`
	Credential *CredentialStatus `json:"credential,omitempty"`
	Tokens     *TokenStatus      `json:"tokens,omitempty"`
	RateLimit  *RateLimitStatus  `json:"rate_limit,omitempty"`
}

// CredentialStatus says of when the credential is that the mirror holds, or why it has none.
type CredentialStatus struct {
	Fetched time.Time `json:"fetched,omitzero"`
	Expires time.Time `json:"expires,omitzero"` // until when it is used
	Fault   string    `json:"fault,omitempty"`
}

// TokenStatus sums up the tokens of an account, one for each repository in use.
type TokenStatus struct {
	Held    int       `json:"held"`
	Oldest  time.Time `json:"oldest"`  // when that was fetched
	Expires time.Time `json:"expires"` // when the first of them ends
}

// RateLimitStatus is what the upstream told of an account's rate limit.
type RateLimitStatus struct {
	Told      time.Time `json:"told,omitzero"` // when the numbers were told
	Limit     *int64    `json:"limit,omitempty"`
	Remaining *int64    `json:"remaining,omitempty"`
	// WindowSeconds is the time to which the limit applies.
	WindowSeconds int64     `json:"window_seconds,omitempty"`
	Reset         time.Time `json:"reset,omitzero"` // when all of it is there again
	// ManifestsFrom and BlobsFrom are when the upstream may be asked for them again; left out when it may be now.
	ManifestsFrom time.Time `json:"manifests_from,omitzero"`
	BlobsFrom     time.Time `json:"blobs_from,omitzero"`
}

// EndpointStatus is the state of the circuit breaker before an endpoint (closed, open or probing), and how fast it answers.
type EndpointStatus struct {
	URL       string    `json:"url"`
	State     string    `json:"state"`
	Since     time.Time `json:"since"`
	LastError string    `json:"last_error,omitempty"`
	// HeaderSeconds is the smoothed time that its answers take to their first header; left out before the first.
	HeaderSeconds float64 `json:"header_seconds,omitempty"`
	// Slow: it takes much longer than another endpoint, which is asked before it.
	Slow bool `json:"slow,omitempty"`
}

// upstreamStatus joins how upstreams are doing with what was counted of them.
func upstreamStatus(all []mirror.UpstreamCondition, n numbers) []UpstreamStatus {
	requests := n.by("mirror_upstream_requests_total", "upstream")
	served, received := n.by("mirror_upstream_served_bytes_total", "upstream"), n.by("mirror_upstream_bytes_total", "upstream")
	ahead, used := n.by("mirror_prefetched_bytes_total", "upstream"), n.by("mirror_prefetch_used_bytes_total", "upstream")
	described := make([]UpstreamStatus, len(all))
	for i, u := range all {
		name := u.Registry
		described[i] = UpstreamStatus{
			Registry: name, Available: u.Available, Offline: u.Offline,
			Requests: requests[name], Traffic: traffic(served[name], received[name]),
			InFlight: UsageStatus(u.Requests), Transfers: UsageStatus(u.Transfers),
			Prefetch: PrefetchStatus{u.Prefetch.Enabled, u.Prefetch.Fills, u.Prefetch.Planned, ahead[name], used[name]},
			Accounts: accountStatus(u.Accounts), Endpoints: endpointStatus(u.Endpoints),
		}
		if u.RateLimitRemaining >= 0 {
			described[i].RateLimitRemaining = &u.RateLimitRemaining
		}
	}
	return described
}

func traffic(served, received int64) TrafficStatus {
	return TrafficStatus{Served: served, Upstream: received, Saved: served - received}
}

func endpointStatus(all []upstream.EndpointHealth) []EndpointStatus {
	described := make([]EndpointStatus, len(all))
	for i, e := range all {
		described[i] = EndpointStatus{e.URL, e.State, e.Since.UTC(), e.LastError, e.Headers.Seconds(), e.Slow}
	}
	return described
}

func accountStatus(all []upstream.AccountCondition) []AccountStatus {
	described := make([]AccountStatus, len(all))
	for i, a := range all {
		described[i] = AccountStatus{
			Key: a.Key, Anonymous: a.Anonymous, AsideUntil: utc(a.AsideUntil), RateLimit: rateLimitStatus(a.RateLimit),
		}
		if c := a.Credential; c != (upstream.CredentialCondition{}) {
			described[i].Credential = &CredentialStatus{utc(c.Fetched), utc(c.Expires), c.Fault}
		}
		if t := a.Tokens; t.Held > 0 {
			described[i].Tokens = &TokenStatus{t.Held, t.Oldest.UTC(), t.Expires.UTC()}
		}
	}
	return described
}

// rateLimitStatus is nil when the upstream never told of a limit.
func rateLimitStatus(l upstream.RateLimit) *RateLimitStatus {
	if l.Told.IsZero() && l.ManifestsFrom.IsZero() && l.BlobsFrom.IsZero() {
		return nil
	}
	return &RateLimitStatus{
		Told: utc(l.Told), Limit: told(l.Limit), Remaining: told(l.Remaining), WindowSeconds: int64(l.Window / time.Second),
		Reset: utc(l.Reset), ManifestsFrom: utc(l.ManifestsFrom), BlobsFrom: utc(l.BlobsFrom),
	}
}

// told leaves out a number that the upstream did not tell.
func told(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

// utc keeps a time that is none what it is.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}
