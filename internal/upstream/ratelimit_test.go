package upstream_test

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// tooMany is a 429 with headers.
func tooMany(pairs ...string) upstreamtest.Fault {
	header := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		header.Set(pairs[i], pairs[i+1])
	}
	return upstreamtest.Fault{Status: http.StatusTooManyRequests, Header: header}
}

// limitedBy checks that an error is a rate limit with the rest of a pause.
func limitedBy(t *testing.T, err error, least, most time.Duration) {
	t.Helper()
	if !errors.Is(err, upstream.ErrTooManyRequests) {
		t.Errorf("got %v, want a rate limit", err)
	}
	if wait := upstream.RetryAfter(err); wait < least || wait > most {
		t.Errorf("wait %v, want %v to %v", wait, least, most)
	}
}

func TestPullLimitIsRemembered(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 1000)
	r := connect(t, origin, nil)
	origin.FailMethod(upstreamtest.Manifest, "GET", -1, tooMany("RateLimit-Limit", "100;w=600", "RateLimit-Remaining", "0;w=600"))
	_, err := r.Manifest(t.Context(), "app", tag("1"))
	limitedBy(t, err, 600*time.Second, 600*time.Second)
	origin.Reset()
	for range 10 {
		_, err := r.Manifest(t.Context(), "app", tag("1"))
		limitedBy(t, err, 500*time.Second, 600*time.Second)
		_, err = r.HeadManifest(t.Context(), "other", tag("1"))
		limitedBy(t, err, 500*time.Second, 600*time.Second)
		_, err = r.Tags(t.Context(), "app", 0, "")
		limitedBy(t, err, 500*time.Second, 600*time.Second)
	}
	if n := len(origin.Requests()); n != 0 {
		t.Errorf("%d requests went out during a pause of ten minutes", n)
	}
	if b := r.Budget(); !b.Exhausted() || b.Left != 0 || time.Until(b.Until) > 600*time.Second {
		t.Errorf("got %+v", b)
	}
	// What has its manifest already is pulled to the end.
	body, err := r.Blob(t.Context(), "app", image.Config.Digest, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := io.Copy(io.Discard, body); err != nil {
		t.Error(err)
	}
}

// A 429 to a second request for content that is on its way is about the number of connections, unless it names a time.
func TestOneConnectionTooMany(t *testing.T) {
	f := func(paused bool, refusal upstreamtest.Fault) {
		t.Helper()
		origin := upstreamtest.New(t)
		d := origin.AddBlob("app", content(3000))
		r := connect(t, origin, nil)
		download := r.Download("app", d)
		body, err := download.Open(t.Context(), 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		origin.Fail(upstreamtest.Blob, 1, refusal)
		if _, err := download.Open(t.Context(), 1000, 2000); !errors.Is(err, upstream.ErrTooManyRequests) {
			t.Errorf("got %v", err)
		}
		other, err := r.Blob(t.Context(), "app", d, 0, -1)
		if errors.Is(err, upstream.ErrTooManyRequests) != paused {
			t.Errorf("another download: got %v, want a pause: %v", err, paused)
		}
		if err == nil {
			_ = other.Close()
		}
	}
	f(false, tooMany())
	f(true, tooMany("Retry-After", "30"))
	f(true, tooMany("RateLimit-Limit", "100;w=60", "RateLimit-Remaining", "0;w=60"))
}

// What a registry has told of its limits may have been about credentials that are replaced by now.
func TestReloadEndsPauses(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 1000)
	r := connect(t, origin, nil)
	origin.FailMethod(upstreamtest.Manifest, "GET", 1, tooMany("Retry-After", "999999"))
	_, err := r.Manifest(t.Context(), "app", tag("1"))
	limitedBy(t, err, time.Hour, time.Hour)
	if err := r.set.Reload([]upstream.Config{{Registry: "reg.example"}}); err != nil {
		t.Fatal(err)
	}
	if b := r.Budget(); b.Exhausted() || b.Left != 1 {
		t.Errorf("got %+v, want nothing known", b)
	}
	if _, err := r.Manifest(t.Context(), "app", tag("1")); err != nil {
		t.Error(err)
	}
}

func TestLimitWithoutATime(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	r := connect(t, origin, nil)
	origin.Fail(upstreamtest.Manifest, 1, tooMany())
	for range 10 {
		_, err := r.HeadManifest(t.Context(), "app", tag("1"))
		limitedBy(t, err, 0, 0)
	}
	if n := len(origin.Requests()); n != 1 {
		t.Errorf("%d requests went out, want 1", n)
	}
}

func TestLimitOfBlobsIsOneOfBlobs(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 1000)
	r := connect(t, origin, nil)
	origin.Fail(upstreamtest.Blob, -1, tooMany("Retry-After", "30"))
	for range 3 {
		_, err := r.HeadBlob(t.Context(), "app", image.Config.Digest)
		limitedBy(t, err, 25*time.Second, 30*time.Second)
	}
	if n := origin.Count(upstreamtest.Blob, ""); n != 1 {
		t.Errorf("%d requests for blobs, want 1", n)
	}
	if _, err := r.HeadManifest(t.Context(), "app", tag("1")); err != nil {
		t.Error(err)
	}
	if r.Budget().Exhausted() {
		t.Error("manifests are taken to be limited")
	}
}

func TestLimitOfTheTokenServiceIsOneOfEverything(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 1000)
	origin.RequireToken("", "")
	origin.Fail(upstreamtest.Token, -1, tooMany("Retry-After", "30"))
	r := connect(t, origin, nil)
	for range 3 {
		_, err := r.HeadManifest(t.Context(), "app", tag("1"))
		limitedBy(t, err, 25*time.Second, 30*time.Second)
		_, err = r.HeadBlob(t.Context(), "app", image.Config.Digest)
		limitedBy(t, err, 25*time.Second, 30*time.Second)
	}
	if n := origin.Count(upstreamtest.Token, ""); n != 1 {
		t.Errorf("%d requests for tokens, want 1", n)
	}
}

func TestLimitOfOneEndpointLeavesTheOther(t *testing.T) {
	first, second := upstreamtest.New(t), upstreamtest.New(t)
	image := first.AddImage("app", "1")
	second.AddManifest("app", "1", image.MediaType, image.Manifest)
	first.Fail(upstreamtest.Manifest, -1, tooMany("Retry-After", "30"))
	r := connect(t, first, func(c *upstream.Config) { c.Endpoints = append(c.Endpoints, second.URL) })
	for range 3 {
		if _, err := r.Manifest(t.Context(), "app", tag("1")); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := len(first.Requests()), len(second.Requests()); a != 1 || b != 3 {
		t.Errorf("%d and %d requests, want 1 and 3", a, b)
	}
	if r.Budget().Exhausted() {
		t.Error("exhausted although the second endpoint has no limit")
	}
}
