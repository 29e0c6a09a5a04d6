package mirror_test

import (
	"errors"
	"net/http"
	"testing"

	"mirror/internal/mirror"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// A digest that is no manifest may be a blob, and the other way round: clients ask for both in turn (containerd does, for
// a digest of which it does not know what it is), and a stranger may ask for the wrong one.
func TestMissingAsOneKindIsNotMissingAsTheOther(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 1000)
	h := open(t, origin)
	if err := h.manifestError("app", digest(image.Layers[0].Digest)); !errors.Is(err, upstream.ErrNotFound) {
		t.Error(err)
	}
	h.blob("app", image.Layers[0], mirror.Miss)
	if _, err := h.Blob(t.Context(), repository(t, "app"), image.Digest); !errors.Is(err, upstream.ErrNotFound) {
		t.Error(err)
	}
	h.manifest("app", digest(image.Digest), mirror.Miss)
}

// A repository that has become private is not asked about again and again, although its tags are still known.
func TestKnownTagOfRepositoryThatBecamePrivate(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 10)
	h := open(t, origin, fresh(always))
	h.manifest("app", tag("1"), mirror.Miss)
	origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Status: http.StatusUnauthorized})
	origin.Reset()
	for range 5 {
		if err := h.manifestError("app", tag("1")); !errors.Is(err, upstream.ErrNotFound) {
			t.Error(err)
		}
	}
	if n := origin.Count(upstreamtest.Manifest, ""); n != 1 {
		t.Errorf("asked %d times for what is known to be refused", n)
	}
}

// What was missing a moment ago and comes in by its tag is not missing any more.
func TestMissingDigestThatCameByTag(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 10)
	h := open(t, origin, func(_ *upstream.Config, c *cacheConfig) { c.MaxSize = 1 })
	origin.Remove("app", image.Digest)
	_ = h.manifestError("app", digest(image.Digest))
	origin.AddManifest("app", "1", image.MediaType, image.Manifest)
	h.manifest("app", tag("1"), mirror.Miss)
	h.manifest("app", digest(image.Digest), mirror.Miss) // nothing can be stored here
}
