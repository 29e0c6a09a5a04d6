package upstream_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// near fails the test unless a time is within a minute of what it should be.
func near(t *testing.T, what string, got, want time.Time) {
	t.Helper()
	if got.Sub(want).Abs() > time.Minute {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// labelled is the label of the upstream of connect, and one more.
func labelled(name, value string) map[string]string {
	return map[string]string{"upstream": "reg.example", name: value}
}

func TestConditionOfAnIdleUpstream(t *testing.T) {
	origin := upstreamtest.New(t)
	r := connect(t, origin, nil)
	c := r.Condition()
	want := upstream.AccountCondition{Key: "credentials", Anonymous: true, RateLimit: upstream.RateLimit{Limit: -1, Remaining: -1}}
	if len(c.Accounts) != 1 || c.Accounts[0] != want || !c.Available || c.Budget.Left != 1 {
		t.Errorf("got %+v", c)
	}
	if (c.Requests != upstream.Usage{Limit: 64}) || (c.Transfers != upstream.Usage{Limit: 56}) {
		t.Errorf("got %+v and %+v in use", c.Requests, c.Transfers)
	}
	for name, want := range map[string]float64{"available": 1, "ratelimit_left_ratio": 1, "requests_in_flight": 0} {
		if got := r.count(t, "mirror_upstream_"+name, labelled("upstream", "reg.example")); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// Each account has tokens and a rate limit of its own, and no secret of any shows.
func TestConditionOfAccounts(t *testing.T) {
	c := newClub(t, "alice", "bob")
	r := c.join(t, "alice", "bob")
	c.says("alice", left(10))
	c.says("bob", left(70))
	r.pull(t, nil)
	r.pull(t, nil)
	now, begun := r.Condition(), time.Now()
	for i, remaining := range []int64{10, 70} {
		a := now.Accounts[i]
		if l := a.RateLimit; l.Remaining != remaining || l.Limit != 100 || l.Window != 6*time.Hour || !l.Reset.IsZero() {
			t.Errorf("the limit of %s is %+v", a.Key, l)
		}
		near(t, "the limit", a.RateLimit.Told, begun)
		if a.Key != fmt.Sprintf("accounts[%d]", i) || a.Anonymous || a.Tokens.Held != 1 || !a.AsideUntil.IsZero() {
			t.Errorf("got %+v", a)
		}
		near(t, "the oldest token", a.Tokens.Oldest, begun)
		near(t, "the credential", a.Credential.Fetched, begun)
		if !a.Credential.Expires.After(begun) || !a.Tokens.Expires.After(begun) {
			t.Errorf("of %s, %+v and %+v have expired", a.Key, a.Credential, a.Tokens)
		}
	}
	if text := fmt.Sprintf("%+v", now); strings.Contains(text, "token-of-") || strings.Contains(text, "password-of-") {
		t.Errorf("a secret shows: %s", text)
	}
	if n := r.count(t, "mirror_upstream_tokens", labelled("account", "accounts[1]")); n != 1 {
		t.Errorf("the metrics show %v tokens", n)
	}
	if ratio := r.count(t, "mirror_upstream_ratelimit_left_ratio", nil); ratio < 0.69 || ratio > 0.71 {
		t.Errorf("the metrics show that %v is left, want the best account's", ratio)
	}
}

func TestConditionOfARefusedAccount(t *testing.T) {
	c := newClub(t, "bob")
	r := c.join(t, "alice", "bob")
	c.mu.Lock()
	c.tokens["alice"] = upstreamtest.Fault{Status: http.StatusUnauthorized}
	c.mu.Unlock()
	r.pull(t, nil)
	near(t, "the end of its time aside", r.Condition().Accounts[0].AsideUntil, time.Now().Add(5*time.Minute))
	for account, want := range map[string]float64{"accounts[0]": 0, "accounts[1]": 1} {
		if got := r.count(t, "mirror_upstream_credential_ok", labelled("account", account)); got != want {
			t.Errorf("%s: %v, want %v", account, got, want)
		}
	}
}

// A credential that cannot be had says why.
func TestConditionWithoutACredential(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.RequireBasic("user", "password")
	r := connect(t, origin, func(c *upstream.Config) {
		c.Credentials = upstream.Credentials{Username: "user", PasswordFile: "/there/is/none"}
	})
	r.pull(t, upstream.ErrUnauthorized)
	if a := r.Condition().Accounts[0]; !strings.Contains(a.Credential.Fault, "/there/is/none") || !a.Credential.Expires.IsZero() {
		t.Errorf("got %+v", a.Credential)
	}
}

// Told to wait, an upstream shows until when, and whether that is about manifests or blobs.
func TestConditionWhileLimited(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	r := connect(t, origin, nil)
	origin.Fail(upstreamtest.Manifest, -1, tooMany("Retry-After", "600", "RateLimit-Limit", "60", "RateLimit-Remaining", "0", "RateLimit-Reset", "900"))
	r.pull(t, upstream.ErrTooManyRequests)
	c := r.Condition()
	l := c.Accounts[0].RateLimit
	near(t, "the end of the pause", l.ManifestsFrom, time.Now().Add(10*time.Minute))
	near(t, "the reset", l.Reset, time.Now().Add(15*time.Minute))
	if !l.BlobsFrom.IsZero() || l.Remaining != 0 || !c.Budget.Exhausted() {
		t.Errorf("got %+v, %+v", l, c.Budget)
	}
	at := time.Unix(int64(r.count(t, "mirror_upstream_ratelimit_reset_timestamp_seconds", nil)), 0)
	near(t, "the reset in the metrics", at, l.Reset)
}

// What is on its way is shown while it is.
func TestConditionDuringATransfer(t *testing.T) {
	origin := upstreamtest.New(t)
	layer := origin.AddImage("app", "1", 1<<20).Layers[0]
	r := connect(t, origin, func(c *upstream.Config) { c.Endpoints = append(c.Endpoints, c.Endpoints[0]+"/") })
	body, err := r.Blob(t.Context(), "app", layer.Digest, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if c := r.Condition(); c.Requests.InUse != 1 || c.Transfers.InUse != 1 {
		t.Errorf("got %+v and %+v, want one", c.Requests, c.Transfers)
	}
	if up := r.count(t, "mirror_upstream_endpoint_up", labelled("endpoint", origin.URL)); up != 1 {
		t.Errorf("the endpoint is up %v times", up)
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		t.Error(err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	if c := r.Condition(); c.Requests.InUse+c.Transfers.InUse != 0 {
		t.Errorf("got %+v and %+v, want none", c.Requests, c.Transfers)
	}
}
