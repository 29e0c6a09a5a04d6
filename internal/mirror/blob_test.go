package mirror_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"mirror/internal/cache"
	"mirror/internal/mirror"
	"mirror/internal/units"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

type cacheConfig = cache.Config

func TestBlobMissThenHit(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 5<<20, 1000)
	h := open(t, origin)
	h.pull("app", image)
	origin.Reset()
	for range 3 {
		for _, l := range append(image.Layers, image.Config) {
			if source := h.blob("app", l, mirror.Hit); source == mirror.Upstream {
				t.Error("a hit came from upstream")
			}
		}
	}
	if n := len(origin.Requests()); n != 0 {
		t.Errorf("hits cost %d requests", n)
	}
}

func TestBlobWithoutItsManifest(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 2<<20)
	h := open(t, origin)
	h.blob("app", image.Layers[0], mirror.Miss)
	h.settle()
	h.blob("app", image.Layers[0], mirror.Hit)
}

func TestManyClientsOneDownload(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 8<<20)
	layer := image.Layers[0]
	h := open(t, origin)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			b, err := h.Blob(t.Context(), repository(t, "app"), layer.Digest)
			if err != nil {
				t.Error(err)
				return
			}
			defer b.Close()
			hash := layer.Digest.Hash()
			if _, err := b.WriteRange(hash, 0, -1); err != nil || !layer.Digest.Matches(hash) {
				t.Error("wrong bytes", err)
			}
		})
	}
	wg.Wait()
	h.settle()
	if n := origin.Count(upstreamtest.Blob, "GET"); n != 1 || origin.Sent(layer.Digest) != layer.Size {
		t.Errorf("50 clients cost %d downloads, %d bytes of %d", n, origin.Sent(layer.Digest), layer.Size)
	}
}

// A digest is not a capability: what one repository has brought in is not served through another that lacks it.
func TestBlobOfAnotherRepository(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("secret", "1", 2<<20)
	origin.AddImage("open", "1", 10)
	h := open(t, origin)
	h.pull("secret", image)
	if _, err := h.Blob(t.Context(), repository(t, "open"), image.Layers[0].Digest); !errors.Is(err, upstream.ErrNotFound) {
		t.Errorf("blob through the wrong repository: %v", err)
	}
	if _, err := h.StatBlob(t.Context(), repository(t, "open"), image.Layers[0].Digest); !errors.Is(err, upstream.ErrNotFound) {
		t.Errorf("HEAD through the wrong repository: %v", err)
	}
	if err := h.manifestError("open", digest(image.Digest)); !errors.Is(err, upstream.ErrNotFound) {
		t.Errorf("manifest through the wrong repository: %v", err)
	}
	t.Run("that has it too", func(t *testing.T) {
		origin.AddBlob("third", image.Layers[0].Bytes)
		origin.Reset()
		h.blob("third", image.Layers[0], mirror.Hit)
		h.blob("third", image.Layers[0], mirror.Hit)
		if heads, gets := origin.Count(upstreamtest.Blob, "HEAD"), origin.Count(upstreamtest.Blob, "GET"); heads != 1 || gets != 0 {
			t.Errorf("confirming cost %d HEAD and %d GET, want 1 and 0", heads, gets)
		}
	})
}

// Where the mirror reads with credentials, a manifest that names a layer proves nothing: the registry is asked.
func TestNamedIsNotHeld(t *testing.T) {
	origin := upstreamtest.New(t)
	secret := origin.AddImage("secret", "1", 2<<20)
	forged := origin.AddManifest("forged", "1", secret.MediaType, secret.Manifest)
	origin.RequireBasic("user", "pass")
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("pass\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := open(t, origin, func(u *upstream.Config, _ *cacheConfig) {
		u.Credentials = upstream.Credentials{Username: "user", PasswordFile: password}
	})
	h.pull("secret", secret)
	h.manifest("forged", digest(forged), mirror.Miss)
	if _, err := h.Blob(t.Context(), repository(t, "forged"), secret.Layers[0].Digest); !errors.Is(err, upstream.ErrNotFound) {
		t.Errorf("layer through a repository that only names it: %v", err)
	}
}

func TestStatStartsNoFill(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 3<<20)
	h := open(t, origin)
	s, err := h.StatBlob(t.Context(), repository(t, "app"), image.Layers[0].Digest)
	if err != nil || s.Size != 3<<20 || s.Outcome != mirror.Miss {
		t.Errorf("%+v, %v", s, err)
	}
	if n := origin.Count(upstreamtest.Blob, "GET"); n != 0 {
		t.Errorf("a HEAD cost %d GET", n)
	}
}

func TestMissingIsRemembered(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 10)
	other := origin.AddImage("elsewhere", "1", 10)
	h := open(t, origin)
	for range 5 {
		if _, err := h.Blob(t.Context(), repository(t, "app"), other.Config.Digest); !errors.Is(err, upstream.ErrNotFound) {
			t.Error(err)
		}
	}
	if n := origin.Count(upstreamtest.Blob, ""); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestRegistryThatIsNotConfigured(t *testing.T) {
	h := open(t, upstreamtest.New(t))
	repo := repository(t, "app")
	repo.Registry = "elsewhere.test"
	if _, err := h.Manifest(t.Context(), repo, tag("1")); !errors.Is(err, mirror.ErrNoUpstream) {
		t.Error(err)
	}
}

// A cache that is too small for a layer still serves it, whole and verified, and stores what fits.
func TestNoRoom(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 5<<20, 100_000)
	h := open(t, origin, func(_ *upstream.Config, c *cacheConfig) { c.MaxSize = 2 * units.MiB })
	for range 2 {
		h.blob("app", image.Layers[0], mirror.Miss)
	}
	h.blob("app", image.Layers[1], mirror.Miss)
	h.settle()
	h.blob("app", image.Layers[1], mirror.Hit)
	origin.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{Flip: []int64{3 << 20}})
	b, err := h.Blob(t.Context(), repository(t, "app"), image.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	n, err := b.WriteRange(image.Layers[0].Digest.Hash(), 0, -1)
	if err == nil || n >= image.Layers[0].Size {
		t.Errorf("wrong content came whole: %d bytes, %v", n, err)
	}
}

func TestLookupsAddUp(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 1000)
	h := open(t, origin)
	h.manifest("app", tag("1"), mirror.Miss)
	h.manifest("app", tag("1"), mirror.Hit)
	_ = h.manifestError("app", tag("2"))
	h.blob("app", image.Config, mirror.Miss)
	h.settle()
	h.blob("app", image.Config, mirror.Hit)
	if n := h.counter("mirror_lookups_total", "manifest"); n != 3 {
		t.Errorf("%v manifest lookups, want 3", n)
	}
	if n := h.counter("mirror_lookups_total", "blob"); n != 2 {
		t.Errorf("%v blob lookups, want 2", n)
	}
	if n := h.counter("mirror_lookups_total", "manifest", "hit"); n != 1 {
		t.Errorf("%v manifest hits, want 1", n)
	}
}

// A registry that answers ranges with something else than was asked for is asked without.
func TestWrongContentRange(t *testing.T) {
	origin := upstreamtest.New(t)
	layer := origin.AddImage("app", "1", 6<<20).Layers[0]
	origin.Hook(func(r *http.Request) *upstreamtest.Fault {
		switch {
		case upstreamtest.KindOf(r) != upstreamtest.Blob:
			return nil
		case r.Header.Get("Range") != "":
			return &upstreamtest.Fault{ContentRange: "bytes 0-9/10"}
		case origin.Count(upstreamtest.Blob, "GET") <= 1:
			return &upstreamtest.Fault{CutAfter: 3 << 20}
		}
		return nil
	})
	h := open(t, origin)
	h.blob("app", layer, mirror.Miss)
}
