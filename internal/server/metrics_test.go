package server_test

import (
	"testing"

	"mirror/internal/oci"
)

// TestMetrics checks the counters that dashboards rely on.
func TestMetrics(t *testing.T) {
	h := newHarness(t)
	image := h.hub.AddImage("org/app", "1", 5000)
	layer := image.Layers[0]
	h.get(manifestPath("org/app", "1")).want(t, 200)
	h.get(blobPath("org/app", layer.Digest)).want(t, 200)
	h.stored(layer.Digest)
	h.get(blobPath("org/app", layer.Digest)).want(t, 200)
	h.head(blobPath("org/app", layer.Digest)).want(t, 200)
	h.get(blobPath("org/app", layer.Digest), "Range: bytes=0-9").want(t, 206)
	h.get(blobPath("org/app", oci.MustParseDigest(digestA))).want(t, 404)
	h.get("/v2/").want(t, 200)
	h.get("/nothing").want(t, 404)
	h.raw("PURGE", request("PURGE", "/v2/")).want(t, 405)

	f := func(want float64, name string, labels ...string) {
		t.Helper()
		eventually(t, name, func() bool { return h.metric(name, labels...) == want })
	}
	f(1, "mirror_requests_total", "kind=manifest", "method=GET", "code=200")
	f(2, "mirror_requests_total", "kind=blob", "method=GET", "code=200")
	f(1, "mirror_requests_total", "kind=blob", "method=HEAD", "code=200")
	f(1, "mirror_requests_total", "kind=blob", "method=GET", "code=206")
	f(1, "mirror_requests_total", "kind=blob", "method=GET", "code=404")
	f(1, "mirror_requests_total", "kind=ping", "method=GET", "code=200")
	f(1, "mirror_requests_total", "kind=other", "method=GET", "code=404")
	f(1, "mirror_requests_total", "kind=other", "method=other", "code=405")
	f(float64(5000+len(image.Manifest)), "mirror_served_bytes_total", "source=upstream")
	f(float64(2*5000+10+len(image.Manifest)), "mirror_served_bytes_total")
	f(float64(2*5000+10+len(image.Manifest)), "mirror_upstream_served_bytes_total", "upstream=docker.io")
	// Manifest, two whole blobs, one HEAD, one part.
	f(5, "mirror_first_byte_seconds")
	f(2, "mirror_first_byte_seconds", "outcome=miss")
	f(0, "mirror_connections")
	f(0, "mirror_access_log_dropped_total")
	f(0, "mirror_panics_total")
	// Every manifest and blob request that passed validation is one lookup.
	f(6, "mirror_lookups_total")
}

// TestRequestIDReachesTheLog checks that the lines of a request can be found by the id that its client has.
func TestRequestIDReachesTheLog(t *testing.T) {
	h := newHarness(t)
	h.hub.Stop()
	h.get(manifestPath("org/app", "1"), "X-Request-Id: trace-7").want(t, 502)
	if got := h.logs.lines(`"request":"trace-7"`, `"level":"ERROR"`, `"reference":"1"`); len(got) != 1 {
		t.Errorf("got %d lines, want one: %v", len(got), got)
	}
}
