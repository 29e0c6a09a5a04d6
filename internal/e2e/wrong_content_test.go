//go:build e2e

package e2e_test

import (
	"net/http"
	"testing"
	"time"
)

// TestWrongContentIsNeverPassedOn flips a byte at the first, a middle and the last block of what the registry sends. No
// client may get it as if it were whole, and nothing of it may stay: once the registry is right, so is the mirror.
func TestWrongContentIsNeverPassedOn(t *testing.T) {
	registry := must(t, shared.registry)
	g := newGate(t, registry)
	m := startMirror(t, dockerHub(g))

	places := []struct {
		name string
		at   func(size int64) int64
	}{
		{"first block", func(int64) int64 { return 5 }},
		{"middle block", func(size int64) int64 { return size / 2 }},
		{"last block", func(size int64) int64 { return size - 5 }},
	}
	for n, place := range places {
		// Each place has an image of its own, so that nothing remembered of the others helps.
		i := pushRandom(t, registry, "library/wrong-"+[]string{"first", "middle", "last"}[n], 1, 8_000_000)
		size := int64(len(truth(t, registry, i.manifestPath(i.digest))))
		cases := []struct {
			what, path, digest string
			size               int64
		}{
			{"manifest by digest", i.manifestPath(i.digest), i.digest, size},
			{"manifest by tag", i.manifestPath(i.tag), i.digest, size},
			{"config", i.blobPath(i.config), i.config.digest, i.config.size},
			{"layer", i.blobPath(i.layers[0]), i.layers[0].digest, i.layers[0].size},
		}
		for _, c := range cases {
			t.Run(place.name+" of "+c.what, func(t *testing.T) {
				want := truth(t, registry, c.path)
				g.corrupt(c.digest, place.at(c.size))
				for range 2 {
					expectNotWhole(t, m, c.path)
				}
				g.repair()
				expectHealed(t, m, c.path, want)
			})
		}
	}
	eventually(t, "every wrong layer is counted", 10*time.Second, func() bool {
		return m.metric(t, "mirror_fills_total", `outcome="mismatch"`) >= float64(len(places))
	})
}

// expectNotWhole accepts an error before the first byte, or a body that ends short. The connection's orderly end is
// checked on the way.
func expectNotWhole(t *testing.T, m *mirror, path string) {
	t.Helper()
	res, body, err := rawGet(t, m, path)
	switch {
	case res.StatusCode == http.StatusBadGateway:
	case res.StatusCode != http.StatusOK:
		t.Errorf("status %d for wrong content, want 502, or 200 and a short body", res.StatusCode)
	case err == nil:
		t.Errorf("wrong content was delivered as a complete body of %d bytes", len(body))
	}
}

// expectHealed waits for the right content, for a mirror may be wary of a registry that has just sent wrong bytes. Until
// then it may refuse, but no answer may be a complete wrong body.
func expectHealed(t *testing.T, m *mirror, path string, want []byte) {
	t.Helper()
	begin := time.Now()
	eventually(t, "right content after the registry's repair", 90*time.Second, func() bool {
		res, body, err := rawGet(t, m, path)
		if res.StatusCode != http.StatusOK || err != nil {
			time.Sleep(time.Second)
			return false
		}
		same(t, path, body, want)
		return true
	})
	if waited := time.Since(begin); waited > 2*time.Second {
		t.Logf("the right content came %v after the repair", waited)
	}
}
