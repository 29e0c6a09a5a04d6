package server_test

import (
	"net/http"
	"testing"
	"time"

	"mirror/internal/upstream/upstreamtest"
)

// TestOnlyBodiesOfManifestsAnnounceLayers: a HEAD and a 304 are no pull, whatever layer is asked for after them.
func TestOnlyBodiesOfManifestsAnnounceLayers(t *testing.T) {
	h := newHarnessWith(t, options{ahead: true})
	add := func(repo string) upstreamtest.Image { return h.hub.AddImage(repo, "1", 2<<20, 2<<20) }
	headed, known, pulled := add("org/headed"), add("org/known"), add("org/pulled")
	h.head(manifestPath("org/headed", "1")).want(t, 200)
	h.get(manifestPath("org/known", "1"), "If-None-Match: "+known.Digest.String()).want(t, 304)
	h.get(manifestPath("org/pulled", "1")).want(t, 200)
	for repo, image := range map[string]upstreamtest.Image{"org/headed": headed, "org/known": known, "org/pulled": pulled} {
		h.get(blobPath(repo, image.Layers[0].Digest)).want(t, 200)
	}
	for deadline := time.Now().Add(30 * time.Second); h.hub.Sent(pulled.Layers[1].Digest) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the pull is not noticed")
		}
	}
	if n := h.hub.Sent(headed.Layers[1].Digest) + h.hub.Sent(known.Layers[1].Digest); n != 0 {
		t.Errorf("%d bytes of layers were fetched that nobody pulls", n)
	}
	if n := h.hub.Count(upstreamtest.Blob, http.MethodHead); n != 0 {
		t.Errorf("%d questions for layers that nobody pulls", n)
	}
}
