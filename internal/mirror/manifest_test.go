package mirror_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mirror/internal/mirror"
	"mirror/internal/oci"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// The configuration of an image is JSON with a field "config", as a manifest is. It is none.
func TestConfigIsNoManifest(t *testing.T) {
	origin := upstreamtest.New(t)
	body := []byte(`{"architecture":"amd64","config":{"Env":["A=b"]},"rootfs":{"type":"layers","diff_ids":[]}}`)
	config := upstreamtest.Content{Bytes: body}
	config.Digest, config.Size = origin.AddBlob("app", body), int64(len(body))
	manifest := `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeImageManifest + `","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` +
		config.Digest.String() + `","size":` + strconv.Itoa(len(body)) + `},"layers":[]}`
	origin.AddManifest("named", "1", oci.MediaTypeImageManifest, []byte(manifest))
	origin.AddBlob("named", body)
	h := open(t, origin)
	for _, repo := range []string{"app", "named"} {
		if repo == "named" {
			h.manifest(repo, tag("1"), mirror.Miss)
		}
		if _, err := h.StatBlob(t.Context(), repository(t, repo), config.Digest); err != nil {
			t.Fatal(err)
		}
		if b, err := h.Blob(t.Context(), repository(t, repo), config.Digest); err == nil {
			_ = b.Close()
		}
		h.settle()
		if err := h.manifestError(repo, digest(config.Digest)); !errors.Is(err, upstream.ErrNotFound) {
			t.Errorf("%s: %v", repo, err)
		}
	}
}

// A manifest is verified each time it is read from the disk, also when it is too long for the memory tier.
func TestDamagedManifestIsFetchedAgain(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 10)
	h := open(t, origin, func(_ *upstream.Config, c *cacheConfig) { c.Memory.MaxBlob = 1 })
	h.manifest("app", digest(image.Digest), mirror.Miss)
	damage(t, h.dir, image.Digest)
	h.manifest("app", digest(image.Digest), mirror.Miss) // checks the digest of what it gets
	h.manifest("app", digest(image.Digest), mirror.Hit)
}

// damage changes a byte of stored content.
func damage(t *testing.T, dir string, d oci.Digest) {
	t.Helper()
	_, encoded, _ := strings.Cut(d.String(), ":")
	found := 0
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Base(path) != encoded {
			return err
		}
		found++
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, bytes.Replace(content, []byte("schemaVersion"), []byte("schemaversion"), 1), 0o600)
	})
	if err != nil || found != 1 {
		t.Fatalf("%d files of %s: %v", found, d, err)
	}
}

// A manifest does not wait for, or fail with, somebody's download of the same digest as a blob: most registries do not
// serve manifests that way.
func TestManifestThatSomebodyAsksForAsABlob(t *testing.T) {
	origin := upstreamtest.New(t)
	index := origin.AddIndex("app", "1", origin.AddImage("app", "", 10))
	child := index.Images[0]
	h := open(t, origin)
	h.manifest("app", tag("1"), mirror.Miss) // names the child
	arrived, release := hold(origin, func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") })
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := h.Blob(t.Context(), repository(t, "app"), child.Digest); !errors.Is(err, upstream.ErrNotFound) {
			t.Error(err)
		}
	})
	<-arrived
	if _, err := h.Manifest(within(t, 10*time.Second), repository(t, "app"), digest(child.Digest)); err != nil {
		t.Error(err)
	}
	close(release)
	wg.Wait()
}
