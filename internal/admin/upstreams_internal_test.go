package admin

import (
	"encoding/json"
	"testing"
	"time"

	"mirror/internal/mirror"
	"mirror/internal/upstream"
)

// TestAccountStatus: what an upstream never told and what has not happened is left out.
func TestAccountStatus(t *testing.T) {
	at := time.Date(2026, 11, 21, 9, 0, 0, 0, time.FixedZone("", 3600))
	untold := upstream.RateLimit{Limit: -1, Remaining: -1}
	f := func(a upstream.AccountCondition, want string) {
		t.Helper()
		got, err := json.Marshal(accountStatus([]upstream.AccountCondition{a}))
		if err != nil || string(got) != "["+want+"]" {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	f(upstream.AccountCondition{Key: "credentials", Anonymous: true, RateLimit: untold}, `{"key":"credentials","anonymous":true}`)
	f(upstream.AccountCondition{Key: "accounts[0]", AsideUntil: at, RateLimit: untold, Credential: upstream.CredentialCondition{Fault: "none"}},
		`{"key":"accounts[0]","aside_until":"2026-11-21T08:00:00Z","credential":{"fault":"none"}}`)
	f(upstream.AccountCondition{
		Key: "accounts[1]", Credential: upstream.CredentialCondition{Fetched: at, Expires: at.Add(time.Hour)},
		Tokens:    upstream.TokenCondition{Held: 2, Oldest: at, Expires: at.Add(time.Minute)},
		RateLimit: upstream.RateLimit{Told: at, Limit: 100, Remaining: 0, Window: 6 * time.Hour, Reset: at.Add(time.Hour)},
	}, `{"key":"accounts[1]","credential":{"fetched":"2026-11-21T08:00:00Z","expires":"2026-11-21T09:00:00Z"},`+
		`"tokens":{"held":2,"oldest":"2026-11-21T08:00:00Z","expires":"2026-11-21T08:01:00Z"},`+
		`"rate_limit":{"told":"2026-11-21T08:00:00Z","limit":100,"remaining":0,"window_seconds":21600,"reset":"2026-11-21T09:00:00Z"}}`)
	f(upstream.AccountCondition{Key: "accounts[2]", RateLimit: upstream.RateLimit{Limit: -1, Remaining: -1, BlobsFrom: at}},
		`{"key":"accounts[2]","rate_limit":{"blobs_from":"2026-11-21T08:00:00Z"}}`)
}

// TestEndpointStatus: how fast an endpoint answers is left out while it is not known.
func TestEndpointStatus(t *testing.T) {
	at := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	f := func(e upstream.EndpointHealth, want string) {
		t.Helper()
		e.URL, e.State, e.Since = "https://reg.example", "closed", at
		got, err := json.Marshal(endpointStatus([]upstream.EndpointHealth{e}))
		if err != nil || string(got) != `[{"url":"https://reg.example","state":"closed","since":"2026-11-21T09:00:00Z"`+want+`}]` {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	f(upstream.EndpointHealth{}, "")
	f(upstream.EndpointHealth{Headers: 120 * time.Millisecond}, `,"header_seconds":0.12`)
	f(upstream.EndpointHealth{Headers: 2 * time.Second, Slow: true}, `,"header_seconds":2,"slow":true`)
}

// TestUpstreamStatus joins the state of an upstream with the counters of the same name, and with no others.
func TestUpstreamStatus(t *testing.T) {
	counted := map[string]int64{
		"mirror_upstream_requests_total": 7, "mirror_upstream_served_bytes_total": 100, "mirror_upstream_bytes_total": 40,
		"mirror_prefetched_bytes_total": 30, "mirror_prefetch_used_bytes_total": 20,
	}
	n := numbers{by: func(name, label string) map[string]int64 {
		return map[string]int64{"reg.example": counted[name], "other.example": 1}
	}}
	u := mirror.UpstreamCondition{Prefetch: mirror.Prefetch{Enabled: true, Fills: 2, Planned: 3}}
	u.Registry, u.RateLimitRemaining, u.Requests = "reg.example", 0, upstream.Usage{InUse: 3, Waiting: 1, Limit: 64}
	got := upstreamStatus([]mirror.UpstreamCondition{u}, n)[0]
	if got.Requests != 7 || got.Traffic != (TrafficStatus{100, 40, 60}) || got.Prefetch != (PrefetchStatus{true, 2, 3, 30, 20}) {
		t.Errorf("got %+v", got)
	}
	if got.RateLimitRemaining == nil || *got.RateLimitRemaining != 0 || got.InFlight != (UsageStatus{3, 1, 64}) {
		t.Errorf("got %+v", got)
	}
}
