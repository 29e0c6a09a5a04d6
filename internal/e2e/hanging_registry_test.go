//go:build e2e

package e2e_test

import (
	"net/http"
	"testing"
	"time"
)

// headerLimit is how long a client may wait for the head of an answer: the shortest limit among the clients is 30 s.
const headerLimit = 25 * time.Second

// TestHangingRegistryDoesNotHangClients has a registry that takes connections and never answers, which is worse than one
// that is down: most clients wait for ever.
func TestHangingRegistryDoesNotHangClients(t *testing.T) {
	registry := must(t, shared.registry)
	i := pushRandom(t, registry, "library/hanging", 2, 1_000_000)
	g := newGate(t, registry)
	m := startMirror(t, dockerHub(g))
	pullPlain(t, m, i, "")
	other := pushRandom(t, registry, "library/hanging-other", 1, 1_000_000)
	g.hold()

	t.Run("what is cached is served, and soon without a delay", func(t *testing.T) {
		begin := time.Now()
		expectStale(t, m, i)
		t.Logf("the mirror took %v to learn that the registry hangs", time.Since(begin))
		pullPlain(t, m, i, "")
	})
	t.Run("what is not cached is refused in time", func(t *testing.T) {
		for _, path := range []string{other.manifestPath("latest"), other.blobPath(other.layers[0])} {
			begin := time.Now()
			a := get(t, newClient(t), m.url+path, "Accept", manifestTypes)
			if a.status != http.StatusBadGateway && a.status != http.StatusGatewayTimeout {
				t.Errorf("%s: status %d, want 502 or 504", path, a.status)
			}
			if waited := time.Since(begin); waited > headerLimit+5*time.Second {
				t.Errorf("%s: the answer took %v, want less than %v", path, waited, headerLimit)
			}
		}
	})
	t.Run("once the registry answers again, so does the mirror", func(t *testing.T) {
		g.release()
		eventually(t, "pull through the mirror", 2*time.Minute, func() bool {
			err := pullImage(t.Context(), newClient(t), m, other, "")
			if err != nil {
				time.Sleep(time.Second)
			}
			return err == nil
		})
	})
}
