package server_test

import (
	"testing"
	"time"

	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// TestUpstreamCutsLongBlob: a registry that breaks off three times in the middle of a long blob costs its clients nothing, and
// nobody a byte that was on its way: what is read is stored before anybody looks at the error.
func TestUpstreamCutsLongBlob(t *testing.T) {
	const size, each, cuts, again = 64 << 20, 20 << 20, 3, 64 << 10
	f := func(name string, connections int, rate int64, cut func(*upstreamtest.Registry)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarnessWith(t, options{hub: func(c *upstream.Config) { c.Limits.BlobConnections = connections }})
			image := h.hub.AddImage("org/app", "1", size)
			h.get(manifestPath("org/app", "1")).want(t, 200) // tells the length
			cut(h.hub)
			h.hub.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{Rate: rate})
			layer := image.Layers[0]
			clients := []*client{h.dial(), h.dial()}
			for _, c := range clients {
				_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
				c.send(request("GET", blobPath("org/app", layer.Digest)))
			}
			for _, c := range clients {
				c.read("GET").want(t, 200).wantBody(t, layer.Bytes)
			}
			lost, sent := h.hub.Lost(layer.Digest), h.hub.Sent(layer.Digest)
			t.Logf("%d requests, %d bytes lost by cuts, %d sent twice", h.hub.Count(upstreamtest.Blob, "GET"), lost, sent-size)
			if lost > cuts*again {
				t.Errorf("%d bytes were sent again after cuts, want at most %d for each of %d cuts", lost, again, cuts)
			}
			if got := h.metric("mirror_upstream_bytes_total", "upstream=docker.io"); got < size || got > float64(sent)+float64(len(image.Manifest)) {
				t.Errorf("counted %.0f bytes of a blob of %d, of which %d were sent", got, size, sent)
			}
		})
	}
	f("one connection, each cut by itself", 1, 0, func(r *upstreamtest.Registry) {
		r.Fail(upstreamtest.Blob, cuts, upstreamtest.Fault{CutAfter: each})
	})
	f("several connections, all cut at once", 4, 8<<20, func(r *upstreamtest.Registry) { r.CutAll(each, cuts) })
}

// TestUpstreamRestartsDuringBlob: a registry that is gone for a moment, which opens its breaker, does not end what has begun.
func TestUpstreamRestartsDuringBlob(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	layer := h.hub.AddImage("org/app", "1", 6<<20).Layers[0]
	h.hub.Fail(upstreamtest.Blob, 1, upstreamtest.Fault{StallAfter: 3 << 20})
	c := h.dial()
	c.send(request("GET", blobPath("org/app", layer.Digest)))
	if _, err := c.in.Peek(1); err != nil {
		t.Fatal(err)
	}
	h.hub.Stop()
	eventually(t, "the registry is left alone", func() bool { return h.up.Health().Endpoints[0].State == "open" })
	time.AfterFunc(time.Second, h.hub.Start)
	c.read("GET").want(t, 200).wantBody(t, layer.Bytes)
}
