package upstream_test

import (
	"errors"
	"testing"
	"time"

	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// rule returns a rule that changes fresh_for only.
func rule(fresh time.Duration, tags, repositories []string) upstream.TagRule {
	r := upstream.DefaultTagRule()
	r.FreshFor, r.Tags, r.Repositories = fresh, tags, repositories
	return r
}

func TestTagRules(t *testing.T) {
	stale := upstream.DefaultTagRule()
	stale.Repositories, stale.StaleFor, stale.MissingFor = []string{"team/**"}, time.Hour, 0
	r := connect(t, upstreamtest.New(t), func(c *upstream.Config) {
		c.Tags = upstream.Freshness{FreshFor: time.Minute, StaleFor: 24 * time.Hour, MissingFor: 30 * time.Second, Rules: []upstream.TagRule{
			rule(10*time.Second, []string{"latest", "edge"}, nil),
			rule(24*time.Hour, []string{"v*", "sha256-*", "R?"}, []string{"library/*", "team/app"}),
			stale,
		}}
	})
	f := func(name, tag string, fresh, stale, missing time.Duration) {
		t.Helper()
		got := r.TagFreshness(name, tag)
		if got.FreshFor != fresh || got.StaleFor != stale || got.MissingFor != missing {
			t.Errorf("%s:%s is fresh for %v, stale for %v, missing for %v, want %v, %v, %v",
				name, tag, got.FreshFor, got.StaleFor, got.MissingFor, fresh, stale, missing)
		}
	}
	day, half := 24*time.Hour, 30*time.Second
	f("library/debian", "latest", 10*time.Second, day, half)
	f("team/app", "latest", 10*time.Second, day, half) // the first rule that fits, alone
	f("library/debian", "v1.2", day, day, half)
	f("library/debian", "sha256-abc.sig", day, day, half)
	f("library/debian", "R1", day, day, half)
	f("library/debian", "R12", time.Minute, day, half)
	f("library/debian", "xv1", time.Minute, day, half)
	f("library/a/b", "v1", time.Minute, day, half)
	f("team/app", "v1", day, day, half)
	f("team/other", "v1", time.Minute, time.Hour, 0)
	f("elsewhere", "12", time.Minute, day, half)
}

func TestOfflineSendsNothing(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 10)
	origin.RequireToken("robot", "s3cret")
	password := withPassword(t, "robot", "s3cret")
	r := connect(t, origin, func(c *upstream.Config) { password(c); c.Offline = true })
	ctx := t.Context()
	_, head := r.HeadManifest(ctx, "app", tag("1"))
	_, get := r.Manifest(ctx, "app", digested(image.Digest))
	_, headBlob := r.HeadBlob(ctx, "app", image.Config.Digest)
	_, blob := r.Blob(ctx, "app", image.Config.Digest, 0, -1)
	_, tags := r.Tags(ctx, "app", 0, "")
	_, referrers := r.Referrers(ctx, "app", image.Digest, "", "")
	for i, err := range []error{head, get, headBlob, blob, tags, referrers} {
		if !errors.Is(err, upstream.ErrOffline) {
			t.Errorf("question %d: got %v, want %v", i, err, upstream.ErrOffline)
		}
	}
	if r.Available() || !r.Offline() {
		t.Error("an offline registry says that it can be asked")
	}
	if n := len(origin.Requests()); n != 0 {
		t.Errorf("%d requests went out", n)
	}
}
