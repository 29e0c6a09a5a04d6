package mirror_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mirror/internal/cache/cachetest"
	"mirror/internal/mirror"
	"mirror/internal/oci"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// hold keeps the requests for which its condition holds until release is closed, and tells of the first.
func hold(origin *upstreamtest.Registry, which func(*http.Request) bool) (arrived <-chan struct{}, release chan<- struct{}) {
	came, open := make(chan struct{}), make(chan struct{})
	var once sync.Once
	origin.Hook(func(r *http.Request) *upstreamtest.Fault {
		if which(r) {
			once.Do(func() { close(came) })
			<-open
		}
		return nil
	})
	return came, open
}

// Somebody who asks for a digest through a repository that lacks it must not spoil it for those who ask through one that
// has it and find a fill running.
func TestJoiningAFillThatAnotherRepositoryCannotFeed(t *testing.T) {
	for name, ask := range map[string]func(*house, upstreamtest.Content){
		"GET": func(h *house, layer upstreamtest.Content) { h.blob("app", layer, mirror.Miss) },
		"HEAD": func(h *house, layer upstreamtest.Content) {
			if s, err := h.StatBlob(h.t.Context(), repository(h.t, "app"), layer.Digest); err != nil || s.Size != layer.Size {
				h.t.Errorf("%+v, %v", s, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			layer := origin.AddImage("app", "1", 2<<20).Layers[0]
			h := open(t, origin)
			h.manifest("app", tag("1"), mirror.Miss) // links the layer
			arrived, release := hold(origin, func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/stranger/") })
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := h.Blob(t.Context(), repository(t, "stranger"), layer.Digest); !errors.Is(err, upstream.ErrNotFound) {
					t.Error(err)
				}
			})
			<-arrived
			wg.Go(func() { ask(h, layer) })
			close(release)
			wg.Wait()
		})
	}
}

// secretive is the configuration of a registry that is read with credentials.
func secretive(t *testing.T, registry string, origin *upstreamtest.Registry) upstream.Config {
	t.Helper()
	origin.RequireBasic("user", "pass")
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("pass\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return upstream.Config{
		Registry: registry, Endpoints: []string{origin.URL},
		Credentials: upstream.Credentials{Username: "user", PasswordFile: password},
	}
}

// A manifest on a public registry that names what only a private one holds must not open it.
func TestNamedByAPublicRegistryHeldByAPrivateOne(t *testing.T) {
	private, public := upstreamtest.New(t), upstreamtest.New(t)
	secret := private.AddImage("secret", "1", 2<<20)
	forged := public.AddManifest("forged", "1", secret.MediaType, secret.Manifest)
	index := public.AddIndex("sparse", "1", secret)
	h := openAll(t, private, cachetest.Config(t), secretive(t, "registry.test", private),
		upstream.Config{Registry: "public.test", Endpoints: []string{public.URL}})
	h.pull("secret", secret)
	through := func(name string) oci.Repository { return oci.Repository{Registry: "public.test", Name: name} }
	for name, ref := range map[string]oci.Digest{"forged": forged, "sparse": index.Digest} {
		if _, err := h.Manifest(t.Context(), through(name), digest(ref)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Blob(t.Context(), through("forged"), secret.Layers[0].Digest); !errors.Is(err, upstream.ErrNotFound) {
		t.Errorf("layer: %v", err)
	}
	if _, err := h.StatBlob(t.Context(), through("forged"), secret.Config.Digest); !errors.Is(err, upstream.ErrNotFound) {
		t.Errorf("config: %v", err)
	}
	if _, err := h.Manifest(t.Context(), through("sparse"), digest(secret.Digest)); !errors.Is(err, upstream.ErrNotFound) {
		t.Errorf("manifest: %v", err)
	}
}

// However many ask at once for content that is here and not yet known to be their repository's, one HEAD answers them.
func TestConfirmationsCollapse(t *testing.T) {
	origin := upstreamtest.New(t)
	layer := origin.AddImage("first", "1", 2<<20).Layers[0]
	origin.AddBlob("second", layer.Bytes)
	h := open(t, origin)
	h.blob("first", layer, mirror.Miss)
	h.settle()
	origin.Reset()
	arrived, release := hold(origin, func(*http.Request) bool { return true })
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if s, err := h.StatBlob(t.Context(), repository(t, "second"), layer.Digest); err != nil || s.Outcome != mirror.Hit {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
	<-arrived
	close(release)
	wg.Wait()
	if heads := origin.Count(upstreamtest.Blob, ""); heads != 1 {
		t.Errorf("50 clients cost %d requests, want 1", heads)
	}
}

// A manifest that lies about a layer's length spoils the layer for nobody.
func TestManifestThatLiesAboutALength(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 2<<20)
	liar := strings.Replace(string(image.Manifest), `"size":2097152`, `"size":12345`, 1)
	if liar == string(image.Manifest) {
		t.Fatal("the manifest has no such size")
	}
	forged := origin.AddManifest("app", "2", image.MediaType, []byte(liar))
	h := open(t, origin)
	h.manifest("app", digest(forged), mirror.Miss)
	h.blob("app", image.Layers[0], mirror.Miss)
}
