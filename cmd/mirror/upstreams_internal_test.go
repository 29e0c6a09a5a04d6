package main

import (
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"mirror/internal/admin"
)

// TestWriteUpstreams: what was used or is unwell has a block, the rest a line.
func TestWriteUpstreams(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	ago, in := func(d time.Duration) time.Time { return now.Add(-d) }, now.Add
	number := func(n int64) *int64 { return &n }
	well := []admin.EndpointStatus{{URL: "https://reg.example", State: "closed", Since: ago(time.Hour)}}
	f := func(u admin.UpstreamStatus, want ...string) {
		t.Helper()
		var out strings.Builder
		table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
		u.Registry, u.InFlight.Limit = "reg.example", 64
		writeUpstreams(table, admin.Status{Upstreams: []admin.UpstreamStatus{u}}, now)
		if err := table.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != "\n"+strings.Join(want, "\n")+"\n" {
			t.Errorf("got%s", got)
		}
	}
	f(admin.UpstreamStatus{Available: true, Endpoints: well, Accounts: []admin.AccountStatus{{Key: "credentials", Anonymous: true}}},
		"not used yet: reg.example")
	f(admin.UpstreamStatus{Offline: true, Endpoints: well},
		"reg.example",
		"  endpoint  https://reg.example  offline")
	f(admin.UpstreamStatus{Available: true, Requests: 1, Endpoints: []admin.EndpointStatus{
		{URL: "https://reg.example", State: "closed", HeaderSeconds: 0.0123},
		{URL: "https://other.example", State: "closed", HeaderSeconds: 1.5, Slow: true},
	}},
		"reg.example",
		"  endpoint  https://reg.example    works, answers in 12 ms",
		"  endpoint  https://other.example  works, answers in 1500 ms, much slower than another, and is asked after it",
		"  traffic   0 B served, 0 B fetched in 1 requests, 0 B saved")
	f(admin.UpstreamStatus{Available: true, Endpoints: []admin.EndpointStatus{
		{URL: "https://reg.example", State: "open", Since: ago(12 * time.Second), LastError: "no answer"},
		{URL: "https://other.example", State: "probing", Since: ago(time.Second), LastError: "status 503"},
	}},
		"reg.example",
		"  endpoint  https://reg.example    left alone for 12s: no answer",
		"  endpoint  https://other.example  being tried: status 503")
	f(admin.UpstreamStatus{
		Available: true, Endpoints: well, Requests: 120, Traffic: admin.TrafficStatus{Served: 9 << 30, Upstream: 1 << 30, Saved: 8 << 30},
		InFlight: admin.UsageStatus{InUse: 3}, Transfers: admin.UsageStatus{InUse: 2, Waiting: 5},
		Prefetch: admin.PrefetchStatus{Enabled: true, Fills: 2, Planned: 4, Bytes: 120 << 20, Used: 80 << 20},
		Accounts: []admin.AccountStatus{{
			Key:        "credentials",
			Credential: &admin.CredentialStatus{Fetched: ago(2 * time.Hour), Expires: in(9 * time.Hour)},
			Tokens:     &admin.TokenStatus{Held: 12, Oldest: ago(4 * time.Minute), Expires: in(20 * time.Second)},
			RateLimit:  &admin.RateLimitStatus{Told: ago(2 * time.Minute), Limit: number(100), Remaining: number(76), WindowSeconds: 21600, Reset: in(3 * time.Hour)},
		}},
	},
		"reg.example",
		"  endpoint     https://reg.example  works",
		"  traffic      9.0 GiB served, 1.0 GiB fetched in 120 requests, 8.0 GiB saved",
		"  connections  3 of 64 in use, 2 of them for blobs; 5 requests wait for one",
		"  prefetch     120.0 MiB, of which 80.0 MiB were asked for; 2 downloads now, 4 planned",
		"  sign-in      credential of 2h ago, used for 9h more; 12 tokens, the oldest of 4m ago, the first ends in 20s",
		"  rate limit   76 of 100 requests per 6h were left 2m ago; all of them again in 3h")
	f(admin.UpstreamStatus{Available: true, Endpoints: well, Accounts: []admin.AccountStatus{
		{Key: "accounts[0]", AsideUntil: in(4 * time.Minute)},
		{Key: "accounts[1]", Credential: &admin.CredentialStatus{Fault: "no such file"}, RateLimit: &admin.RateLimitStatus{ManifestsFrom: in(time.Minute), BlobsFrom: in(5 * time.Second)}},
	}},
		"reg.example",
		"  endpoint    https://reg.example  works",
		"  sign-in     accounts[0]: refused, and left out for 4m more: renew its credentials",
		"  sign-in     accounts[1]: no credential: no such file",
		"  rate limit  accounts[1]: no manifests for 1m; no blobs for 5s")
}
