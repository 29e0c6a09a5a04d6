package upstream_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"mirror/internal/oci"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

func TestManifest(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("library/debian", "12", 100, 200)
	r := connect(t, origin, nil)

	t.Run("by tag", func(t *testing.T) {
		m, err := r.Manifest(t.Context(), "library/debian", tag("12"))
		if err != nil {
			t.Fatal(err)
		}
		if m.Digest != image.Digest || m.MediaType != image.MediaType || string(m.Body) != string(image.Manifest) {
			t.Errorf("got %s %s, want %s %s", m.MediaType, m.Digest, image.MediaType, image.Digest)
		}
	})
	t.Run("by digest", func(t *testing.T) {
		if m, err := r.Manifest(t.Context(), "library/debian", digested(image.Digest)); err != nil || m.Digest != image.Digest {
			t.Errorf("got %v, %v", m.Digest, err)
		}
	})
	t.Run("head", func(t *testing.T) {
		d, err := r.HeadManifest(t.Context(), "library/debian", tag("12"))
		if err != nil || d != image.Descriptor() {
			t.Errorf("got %v, %v, want %v", d, err, image.Descriptor())
		}
	})
	t.Run("sha512", func(t *testing.T) {
		d := oci.DigestOf(oci.SHA512, image.Manifest)
		origin.AddManifestUnder("library/debian", d, image.MediaType, image.Manifest)
		origin.Tag("library/debian", "long", d)
		for _, ref := range []oci.Reference{digested(d), tag("long")} {
			if m, err := r.Manifest(t.Context(), "library/debian", ref); err != nil || m.Digest != d {
				t.Errorf("%v: got %v, %v", ref, m.Digest, err)
			}
		}
	})
}

func TestManifestRequestIsOurOwn(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	r := connect(t, origin, nil)
	if _, err := r.Manifest(t.Context(), "app", tag("1")); err != nil {
		t.Fatal(err)
	}
	header := origin.Requests()[0].Header
	want := map[string]string{
		"User-Agent": "mirror/1.2.3", "Via": "1.1 mirror-node-1", "Accept-Encoding": "identity",
		"Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " +
			"application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json",
	}
	for key, value := range want {
		if header.Get(key) != value {
			t.Errorf("%s is %q, want %q", key, header.Get(key), value)
		}
	}
	if len(header) != len(want) {
		t.Errorf("more headers than expected: %v", header)
	}
}

// TestManifestFaults walks through what an upstream can do wrong with a manifest.
func TestManifestFaults(t *testing.T) {
	f := func(name string, n int, fault upstreamtest.Fault, want error, requests int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			origin := upstreamtest.New(t)
			image := origin.AddImage("app", "1", 10)
			origin.Fail(upstreamtest.Manifest, n, fault)
			r := connect(t, origin, nil)
			m, err := r.Manifest(t.Context(), "app", digested(image.Digest))
			if want == nil && (err != nil || m.Digest != image.Digest) || want != nil && !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "upstream reg.example: ") {
				t.Errorf("error does not begin with its upstream: %v", err)
			}
			if got := origin.Count(upstreamtest.Manifest, "GET"); got != requests {
				t.Errorf("%d requests, want %d", got, requests)
			}
		})
	}
	status := func(code int) upstreamtest.Fault { return upstreamtest.Fault{Status: code} }
	f("404", -1, status(404), upstream.ErrNotFound, 1)
	f("410", -1, status(410), upstream.ErrNotFound, 1)
	f("401 without credentials", -1, status(401), upstream.ErrUnknownRepository, 1)
	f("403", -1, status(403), upstream.ErrDenied, 1)
	f("406 twice", -1, status(406), upstream.ErrNotFound, 2)
	f("406 once", 1, status(406), nil, 2)
	f("415 once", 1, status(415), nil, 2)
	f("429", -1, status(429), upstream.ErrTooManyRequests, 1)
	f("500 once", 1, status(500), nil, 2)
	f("503", -1, status(503), upstream.ErrUnavailable, 2)
	f("522", -1, status(522), upstream.ErrUnavailable, 2)
	f("400", -1, status(400), upstream.ErrWrongContent, 1)
	f("204", -1, status(204), upstream.ErrWrongContent, 1)
	f("web page", -1, upstreamtest.Fault{HTML: true}, upstream.ErrWrongContent, 1)
	f("wrong byte once", 1, upstreamtest.Fault{Flip: []int64{30}}, nil, 2)
	f("wrong byte", -1, upstreamtest.Fault{Flip: []int64{30}}, upstream.ErrWrongContent, 2)
	f("cut once", 1, upstreamtest.Fault{CutAfter: 20}, nil, 2)
	f("cut", -1, upstreamtest.Fault{CutAfter: 20}, upstream.ErrUnavailable, 2)
	f("longer", -1, upstreamtest.Fault{Extra: 5}, upstream.ErrWrongContent, 2)
	f("too large", -1, upstreamtest.Fault{Extra: 4 << 20}, upstream.ErrTooLarge, 1)
	f("too large without length", -1, upstreamtest.Fault{Extra: 4 << 20, NoLength: true}, upstream.ErrTooLarge, 1)
	f("packed", -1, upstreamtest.Fault{Gzip: true}, upstream.ErrWrongContent, 2)
	f("without length", -1, upstreamtest.Fault{NoLength: true}, nil, 1)
	f("without digest", -1, upstreamtest.Fault{NoDigest: true}, nil, 1)
	f("redirect without an address", -1, upstreamtest.Fault{Status: 302}, upstream.ErrWrongContent, 1)
	f("redirect to another protocol", -1, upstreamtest.Fault{Redirect: "ftp://127.0.0.1/x"}, upstream.ErrWrongContent, 1)
	f("redirect to itself", -1, upstreamtest.Fault{Redirect: "/v2/app/manifests/again"}, upstream.ErrWrongContent, 6)
}

func TestManifestMediaType(t *testing.T) {
	origin := upstreamtest.New(t)
	r := connect(t, origin, nil)
	f := func(declared, body, want string, failure error) {
		t.Helper()
		origin.AddManifest("app", "t", declared, []byte(body))
		m, err := r.Manifest(t.Context(), "app", tag("t"))
		if m.MediaType != want || !errors.Is(err, failure) {
			t.Errorf("%s as %q: got %q, %v, want %q, %v", body, declared, m.MediaType, err, want, failure)
		}
	}
	f("application/json", `{"schemaVersion":2,"manifests":[]}`, oci.MediaTypeImageIndex, nil)
	f("text/plain; charset=utf-8", `{"schemaVersion":2,"config":{},"layers":[]}`, oci.MediaTypeImageManifest, nil)
	f("", `{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{}}`, oci.MediaTypeDockerManifest, nil)
	f("application/vnd.example.thing+json", `{"schemaVersion":2}`, "application/vnd.example.thing+json", nil)
	f("application/octet-stream", `{"schemaVersion":2}`, "", upstream.ErrWrongContent)
	f("application/json", `welcome`, "", upstream.ErrWrongContent)
	f(oci.MediaTypeSchema1Signed, `{"schemaVersion":1,"fsLayers":[]}`, "", upstream.ErrNotFound)
	f("text/plain", `{"schemaVersion":1,"fsLayers":[]}`, "", upstream.ErrNotFound)
}

func TestManifestClaimedDigest(t *testing.T) {
	other := oci.DigestOf(oci.SHA256, []byte("something else"))
	t.Run("wrong claim, right bytes", func(t *testing.T) {
		origin := upstreamtest.New(t)
		image := origin.AddImage("app", "1")
		origin.Fail(upstreamtest.Manifest, 1, upstreamtest.Fault{Digest: other.String()})
		m, err := connect(t, origin, nil).Manifest(t.Context(), "app", tag("1"))
		if err != nil || m.Digest != image.Digest {
			t.Errorf("got %v, %v, want the digest of the bytes", m.Digest, err)
		}
	})
	t.Run("bytes cannot be had by their digest", func(t *testing.T) {
		origin := upstreamtest.New(t)
		origin.AddImage("app", "1")
		origin.Fail(upstreamtest.Manifest, 1, upstreamtest.Fault{Flip: []int64{25}})
		if _, err := connect(t, origin, nil).Manifest(t.Context(), "app", tag("1")); !errors.Is(err, upstream.ErrWrongContent) {
			t.Errorf("got %v, want ErrWrongContent", err)
		}
	})
}

func TestHeadManifest(t *testing.T) {
	f := func(name string, fault upstreamtest.Fault, wantDigest bool, want error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			origin.AddImage("app", "1")
			origin.FailMethod(upstreamtest.Manifest, http.MethodHead, -1, fault)
			d, err := connect(t, origin, nil).HeadManifest(t.Context(), "app", tag("1"))
			if !errors.Is(err, want) || d.Digest.IsZero() == wantDigest {
				t.Errorf("got %v, %v", d, err)
			}
		})
	}
	f("proper", upstreamtest.Fault{}, true, nil)
	f("no digest", upstreamtest.Fault{NoDigest: true}, false, nil)
	f("nonsense digest", upstreamtest.Fault{Digest: "md5:123"}, false, nil)
	f("406", upstreamtest.Fault{Status: 406}, false, nil)
	f("404", upstreamtest.Fault{Status: 404}, false, upstream.ErrNotFound)
	f("web page", upstreamtest.Fault{HTML: true}, false, upstream.ErrWrongContent)
}

func TestHeadManifestNotOffered(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.FailMethod(upstreamtest.Manifest, http.MethodHead, -1, upstreamtest.Fault{Status: 405})
	r := connect(t, origin, nil)
	for range 3 {
		if d, err := r.HeadManifest(t.Context(), "app", tag("1")); err != nil || d != (oci.Descriptor{}) {
			t.Errorf("got %v, %v, want nothing and no error", d, err)
		}
	}
	if n := origin.Count(upstreamtest.Manifest, http.MethodHead); n != 1 {
		t.Errorf("asked %d times, want once: it is remembered", n)
	}
}

func TestStatusError(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{
		Status: 429, Header: http.Header{"Retry-After": {"120"}, "Content-Type": {"application/json"}},
		Body: `{"errors":[{"code":"TOOMANYREQUESTS","message":"slow\ndown ` + strings.Repeat("x", 2000) + `"}]}`,
	})
	_, err := connect(t, origin, nil).Manifest(t.Context(), "app", tag("1"))
	var status *upstream.StatusError
	if !errors.As(err, &status) {
		t.Fatalf("got %v, want a StatusError", err)
	}
	if status.Status != 429 || status.Code != oci.TooManyRequests || status.Registry != "reg.example" || status.Method != "GET" ||
		status.URL != origin.URL+"/v2/app/manifests/1" || len(status.Message) > 512 || !strings.HasPrefix(status.Message, "slow down x") {
		t.Errorf("got %+v", status)
	}
	if got := upstream.RetryAfter(err); got != 2*time.Minute {
		t.Errorf("retry after %v, want 2m", got)
	}
}

func TestRateLimitIsShown(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.Hook(func(*http.Request) *upstreamtest.Fault {
		return &upstreamtest.Fault{Status: 404, Header: http.Header{"Ratelimit-Remaining": {"76;w=21600"}}}
	})
	r := connect(t, origin, nil)
	if got := r.Health().RateLimitRemaining; got != -1 {
		t.Errorf("before the first answer %d remain, want -1 for unknown", got)
	}
	_, _ = r.HeadManifest(t.Context(), "app", tag("1"))
	if got := r.Health().RateLimitRemaining; got != 76 {
		t.Errorf("%d remain, want 76", got)
	}
	if got := r.count(t, "mirror_upstream_ratelimit_remaining", map[string]string{"upstream": "reg.example"}); got != 76 {
		t.Errorf("metric says %v, want 76", got)
	}
	lint(t, r.metrics)
}

func TestCallerGoesAway(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Hang: true})
	r := connect(t, origin, nil)
	ctx, cancel := context.WithCancel(t.Context())
	origin.Hook(func(*http.Request) *upstreamtest.Fault { cancel(); return nil })
	_, err := r.Manifest(ctx, "app", tag("1"))
	if !errors.Is(err, context.Canceled) || errors.Is(err, upstream.ErrUnavailable) {
		t.Errorf("got %v, want context.Canceled and nothing about the upstream", err)
	}
	if !r.Available() {
		t.Error("a client that goes away opened the breaker")
	}
}

// expiring is a context whose deadline passes when the test says so.
type expiring struct {
	context.Context
	over chan struct{}
}

func (e expiring) Done() <-chan struct{} { return e.over }

func (e expiring) Err() error {
	select {
	case <-e.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// A caller whose time is over may only have been in a hurry. When that goes on, the upstream is left alone.
func TestDeadlinesOpenBreaker(t *testing.T) {
	origin := upstreamtest.New(t)
	r := connect(t, origin, nil)
	for n := range 3 {
		if !r.Available() {
			t.Fatalf("not available after %d clients that waited in vain", n)
		}
		ctx := expiring{Context: t.Context(), over: make(chan struct{})}
		origin.Hook(func(*http.Request) *upstreamtest.Fault {
			close(ctx.over)
			return &upstreamtest.Fault{Hang: true}
		})
		_, err := r.HeadManifest(ctx, "app", tag("1"))
		if !errors.Is(err, upstream.ErrTimeout) || !errors.Is(err, upstream.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want ErrTimeout and context.DeadlineExceeded", err)
		}
	}
	_, err := r.HeadManifest(t.Context(), "app", tag("1"))
	var open *upstream.BreakerError
	if !errors.As(err, &open) || !errors.Is(err, upstream.ErrUnavailable) || errors.Is(err, upstream.ErrTimeout) {
		t.Errorf("got %v, want a BreakerError", err)
	}
	if wait := upstream.RetryAfter(err); wait <= 0 || wait > 5*time.Second {
		t.Errorf("retry after %v, want up to 5s", wait)
	}
	h := r.Health()
	if h.Available || h.Endpoints[0].State != "open" || h.Endpoints[0].LastError == "" || h.Endpoints[0].URL != origin.URL {
		t.Errorf("health: %+v", h)
	}
	if n := origin.Count(upstreamtest.Manifest, ""); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

// One thing that an upstream cannot deliver says nothing of the rest.
func TestTroubleWithOnePathIsNotAnOutage(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	d := origin.AddBlob("app", []byte("broken"))
	origin.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{Status: 500})
	r := connect(t, origin, nil)
	for range 5 {
		if _, err := r.Blob(t.Context(), "app", d, 0, -1); !errors.Is(err, upstream.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	}
	if !r.Available() {
		t.Error("one blob made the registry unavailable")
	}
	for range 2 {
		other := origin.AddBlob("app", []byte(rand.Text()))
		_, _ = r.Blob(t.Context(), "app", other, 0, -1)
	}
	if r.Available() {
		t.Error("three different failures did not open the breaker")
	}
}

// What a request came through before goes on to the upstream, so that a circle of mirrors is noticed.
func TestVia(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	r := connect(t, origin, nil)
	for via, want := range map[string]string{"": "1.1 mirror-node-1", "1.1 mirror-a, 1.1 b": "1.1 mirror-a, 1.1 b, 1.1 mirror-node-1"} {
		origin.Reset()
		if _, err := r.HeadManifest(upstream.WithVia(t.Context(), via), "app", tag("1")); err != nil {
			t.Fatal(err)
		}
		if got := origin.Requests()[0].Header.Get("Via"); got != want {
			t.Errorf("Via %q, want %q", got, want)
		}
	}
}

func TestNotAllowed(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("team/app", "1", 5)
	r := connect(t, origin, func(c *upstream.Config) { c.Deny = []string{"team/**"} })
	ctx := t.Context()
	_, errManifest := r.Manifest(ctx, "team/app", tag("1"))
	_, errHead := r.HeadManifest(ctx, "team/app", tag("1"))
	_, errBlob := r.Blob(ctx, "team/app", image.Config.Digest, 0, -1)
	_, errHeadBlob := r.HeadBlob(ctx, "team/app", image.Config.Digest)
	_, errTags := r.Tags(ctx, "team/app", 0, "")
	_, errReferrers := r.Referrers(ctx, "team/app", image.Digest, "", "")
	for _, err := range []error{errManifest, errHead, errBlob, errHeadBlob, errTags, errReferrers} {
		if !errors.Is(err, upstream.ErrNotAllowed) {
			t.Errorf("got %v, want ErrNotAllowed", err)
		}
	}
	if n := len(origin.Requests()); n != 0 {
		t.Errorf("%d requests went out for a denied repository", n)
	}
}

func TestSecondEndpoint(t *testing.T) {
	first, second := upstreamtest.New(t), upstreamtest.New(t)
	image := second.AddImage("app", "1", 1000)
	first.Stop()
	r := connect(t, first, func(c *upstream.Config) { c.Endpoints = append(c.Endpoints, second.URL) })
	for range 3 {
		if _, err := r.Manifest(t.Context(), "app", tag("1")); err != nil {
			t.Fatal(err)
		}
	}
	body, err := r.Blob(t.Context(), "app", image.Layers[0].Digest, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if content, err := io.ReadAll(body); err != nil || string(content) != string(image.Layers[0].Bytes) {
		t.Errorf("blob is wrong, %v", err)
	}
	if h := r.Health(); !h.Available || h.Endpoints[0].State != "open" || h.Endpoints[1].State != "closed" {
		t.Errorf("health: %+v", h)
	}
}

func TestSwitchedOff(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.Stop()
	r := connect(t, origin, nil)
	for range 3 {
		if _, err := r.Manifest(t.Context(), "app", tag("1")); !errors.Is(err, upstream.ErrUnavailable) || errors.Is(err, upstream.ErrTimeout) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	}
	if r.Available() {
		t.Error("still available after six refused connections")
	}
	if got := r.count(t, "mirror_upstream_requests_total", map[string]string{"kind": "manifest", "code": "error"}); got != 3 {
		t.Errorf("%v requests counted as errors, want the 3 that opened the breaker", got)
	}
}
