//go:build e2e

package e2e_test

import (
	"net/http"
	"testing"
	"time"
)

// TestMirrorsInARow has a mirror whose upstream is a mirror, as a site with zones builds it, and two that were pointed at
// each other by mistake.
func TestMirrorsInARow(t *testing.T) {
	registry := must(t, shared.registry)
	i := pushRandom(t, registry, "library/row", 2, 2_000_000)
	g := newGate(t, registry)

	t.Run("content passes through both", func(t *testing.T) {
		far := startMirror(t, dockerHub(g))
		near := startMirror(t, setup{upstreams: []upstream{{registry: "docker.io", endpoint: far.url}}})
		pullPlain(t, near, i, "")
		for _, l := range i.layers {
			expectOnce(t, g, l)
		}
	})
	t.Run("a circle ends with an error", func(t *testing.T) {
		one, other := address(t), address(t)
		first := startMirror(t, setup{listen: one, upstreams: []upstream{{registry: "docker.io", endpoint: "http://" + other}}})
		second := startMirror(t, setup{listen: other, upstreams: []upstream{{registry: "docker.io", endpoint: "http://" + one}}})
		for _, path := range []string{i.manifestPath("latest"), i.blobPath(i.layers[0])} {
			begin := time.Now()
			a := get(t, newClient(t), first.url+path, "Accept", manifestTypes)
			if a.status < http.StatusInternalServerError {
				t.Errorf("%s: status %d, want a server error", path, a.status)
			}
			t.Logf("%s: status %d after %v", path, a.status, time.Since(begin))
		}
		noticed := first.metric(t, "mirror_requests_total", `code="508"`) + second.metric(t, "mirror_requests_total", `code="508"`)
		if noticed == 0 {
			t.Error("neither mirror answered 508: the request that came back was not noticed")
		}
	})
}
