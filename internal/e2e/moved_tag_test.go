//go:build e2e

package e2e_test

import (
	"net/http"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// TestMovedTagReachesClients pushes a new image under a tag that the mirror knows. The new digest and the new bytes come
// together, and whoever still holds the old digest gets the old image.
func TestMovedTagReachesClients(t *testing.T) {
	registry := must(t, shared.registry)
	g := newGate(t, registry)
	m := startMirror(t, dockerHub(g))
	old := pushRandom(t, registry, "library/moved", 1, 500_000)
	pullPlain(t, m, old, "")

	fresh := pushRandom(t, registry, "library/moved", 1, 500_000)
	eventually(t, "the tag has moved", 30*time.Second, func() bool {
		a := get(t, newClient(t), m.url+old.manifestPath("latest"), "Accept", manifestTypes)
		digest := a.header.Get("Docker-Content-Digest")
		if a.status != http.StatusOK || (digest != old.digest && digest != fresh.digest) {
			t.Fatalf("status %d, digest %s, want one of the two images", a.status, digest)
		}
		same(t, "manifest", a.body, truth(t, registry, old.manifestPath(digest)))
		return digest == fresh.digest
	})
	pullPlain(t, m, fresh, "")
	before := len(g.exchanges(http.MethodGet, "", ""))
	if a := get(t, newClient(t), m.url+old.manifestPath(old.digest)); a.status != http.StatusOK {
		t.Errorf("manifest of the old digest: status %d, want 200", a.status)
	}
	mustPull(t, m, old, old.layers[0])
	if n := len(g.exchanges(http.MethodGet, "", "")) - before; n != 0 {
		t.Errorf("%d GETs went to the registry for an image that is cached, want 0", n)
	}
}

// TestManyClientsCostOneCheckOfATag lets fifty clients ask for a tag whose freshness is over, over a slow way to the
// registry.
func TestManyClientsCostOneCheckOfATag(t *testing.T) {
	registry := must(t, shared.registry)
	i := pushRandom(t, registry, "library/checked", 1, 100_000)
	g := newGate(t, registry)
	m := startMirror(t, dockerHub(g))
	g.shape(200*time.Millisecond, 0)
	for _, state := range []string{"cold", "no longer fresh"} {
		t.Run(state, func(t *testing.T) {
			time.Sleep(1100 * time.Millisecond) // Longer than the tag is fresh.
			begin, before := time.Now(), len(g.exchanges("", "manifests", ""))
			if err := fiftyManifests(t, m, i); err != nil {
				t.Fatal(err)
			}
			// A check holds for a second, so that more than one is right when the machine is that slow.
			checks := len(g.exchanges("", "manifests", "")) - before
			if most := 2 * (1 + int(time.Since(begin)/time.Second)); checks < 1 || checks > most {
				t.Errorf("50 clients cost %d manifest requests, want at least one and at most %d", checks, most)
			}
		})
	}
}

// fiftyManifests asks for the same tag with fifty clients at the same moment.
func fiftyManifests(t *testing.T, m *mirror, i *image) error {
	t.Helper()
	var clients errgroup.Group
	for range 50 {
		client := newClient(t)
		clients.Go(func() error { return pullManifest(t.Context(), client, m, i, "") })
	}
	return clients.Wait()
}
