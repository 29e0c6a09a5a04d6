package server_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// TestRegistryThatLimitsConnections: a registry that refuses a second connection, and names no time, costs the clients of a
// long blob nothing: what a single connection would have brought comes, and nobody else is kept from the registry.
func TestRegistryThatLimitsConnections(t *testing.T) {
	const size = 48 << 20
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			h := newHarnessWith(t, options{hub: func(c *upstream.Config) { c.Limits.BlobConnections = 4 }})
			image := h.hub.AddImage("org/app", "1", size)
			h.get(manifestPath("org/app", "1")).want(t, 200) // tells the length
			var open, refused atomic.Int64
			h.hub.Hook(func(r *http.Request) *upstreamtest.Fault {
				if upstreamtest.KindOf(r) != upstreamtest.Blob {
					return nil
				}
				context.AfterFunc(r.Context(), func() { open.Add(-1) })
				if open.Add(1) > 1 {
					refused.Add(1)
					return &upstreamtest.Fault{Status: status}
				}
				return &upstreamtest.Fault{Rate: 16 << 20}
			})
			layer := image.Layers[0]
			c := h.dial()
			_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
			c.send(request("GET", blobPath("org/app", layer.Digest)))
			c.read("GET").want(t, 200).wantBody(t, layer.Bytes)
			t.Logf("%d requests, %d refused", h.hub.Count(upstreamtest.Blob, "GET"), refused.Load())
			if refused.Load() == 0 {
				t.Error("there was no second connection")
			}
			if b := h.up.Condition().Accounts[0].RateLimit.BlobsFrom; !b.IsZero() {
				t.Errorf("no blob is asked for before %v", b)
			}
		})
	}
}
