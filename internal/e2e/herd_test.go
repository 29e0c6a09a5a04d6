//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// distant is the way to a registry on another continent: what every request waits, and what one connection carries in a
// second.
const (
	distantLatency = 30 * time.Millisecond
	distantRate    = 50_000_000
)

func TestFiftyClientsCostTheRegistryOneDownload(t *testing.T) {
	cases := []struct {
		name  string
		layer int64 // bytes of each of the five layers
		race  bool
	}{
		{"150 MB image", 30_000_000, false},
		{"with the race detector", 8_000_000, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			registry := must(t, shared.registry)
			i := pushRandom(t, registry, fmt.Sprintf("library/herd-%d", c.layer), 5, c.layer)
			g := newGate(t, registry)
			g.shape(distantLatency, distantRate)
			set := dockerHub(g)
			set.race = c.race
			m := startMirror(t, set)
			herd(t, m, i, 50)
			expectOneDownload(t, g, i)
		})
	}
}

// herd lets many clients, each with connections of its own, pull an image at the same moment.
func herd(t *testing.T, m *mirror, i *image, size int) {
	t.Helper()
	first := make([]time.Duration, size)
	begin := time.Now()
	clients, ctx := errgroup.WithContext(t.Context())
	for n := range size {
		client := newClient(t)
		clients.Go(func() error {
			var err error
			first[n], err = pullAsDocker(ctx, client, m, i)
			return err
		})
	}
	if err := clients.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(first)
	median := first[size/2]
	t.Logf("%d clients, %d bytes each: first layer byte after %v (median; last %v), all done after %v",
		size, i.size(), median, first[size-1], time.Since(begin))
	// The goal is 200 ms on an idle machine; a busy one must not fail the test.
	if median > 2*time.Second {
		t.Errorf("median time to the first layer byte is %v, want under 2 s", median)
	}
}

// pullAsDocker pulls in Docker's order: the tag, the config, the layers three at a time. It returns how long after the
// start the first layer byte came.
func pullAsDocker(ctx context.Context, client *http.Client, m *mirror, i *image) (time.Duration, error) {
	begin := time.Now()
	if err := pullManifest(ctx, client, m, i, ""); err != nil {
		return 0, err
	}
	if _, err := pullBlob(ctx, client, m.url+i.blobPath(i.config), i.config); err != nil {
		return 0, err
	}
	firsts := make([]time.Duration, len(i.layers))
	layers, ctx := errgroup.WithContext(ctx)
	layers.SetLimit(3)
	for n, l := range i.layers {
		layers.Go(func() error {
			return pullTimed(ctx, client, m.url+i.blobPath(l), l, func() { firsts[n] = time.Since(begin) })
		})
	}
	err := layers.Wait()
	return slices.Min(firsts), err
}

// pullTimed fetches and verifies a blob, and calls first when the first body byte is there.
func pullTimed(ctx context.Context, client *http.Client, url string, l layer, first func()) error {
	res, err := open(ctx, client, url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: status %d", url, res.StatusCode)
	}
	head := make([]byte, 1)
	if _, err := io.ReadFull(res.Body, head); err != nil {
		return fmt.Errorf("read first byte of %s: %w", url, err)
	}
	first()
	_, err = verify(io.MultiReader(bytes.NewReader(head), res.Body), l.digest)
	return err
}

// TestFiftyClientsOfABlobCostAFewRequests has clients that know a digest from elsewhere and ask for nothing but the blob,
// through a registry that the mirror logs in to. What the repository holds has to be found out once, not for each client.
func TestFiftyClientsOfABlobCostAFewRequests(t *testing.T) {
	registry := must(t, shared.registry)
	i := pushRandom(t, registry, "library/blob-herd", 1, 4_000_000)
	g := newGate(t, registry)
	g.shape(distantLatency, distantRate)
	set := dockerHub(g)
	set.upstreams[0].username, set.upstreams[0].passwordFile = "puller", filepath.Join(tempDir(t), "password")
	writeFile(t, set.upstreams[0].passwordFile, "unused: the registry asks for none\n")
	m := startMirror(t, set)
	l := i.layers[0]
	var clients errgroup.Group
	for range 50 {
		client := newClient(t)
		clients.Go(func() error {
			_, err := pullBlob(t.Context(), client, m.url+i.blobPath(l), l)
			return err
		})
	}
	if err := clients.Wait(); err != nil {
		t.Fatal(err)
	}
	expectOnce(t, g, l)
	if n := len(g.exchanges("", "blobs", l.digest)); n > 4 {
		t.Errorf("50 clients of a cold blob cost %d requests to the registry, want at most 4", n)
	}
}

func TestSeveralSkopeosCostTheRegistryOneDownload(t *testing.T) {
	registry := must(t, shared.registry)
	i := pushRandom(t, registry, "library/skopeos", 5, 6_000_000)
	g := newGate(t, registry)
	g.shape(distantLatency, distantRate)
	m := startMirror(t, dockerHub(g))
	var copies errgroup.Group
	for range 6 {
		s := &skopeo{podmanIn(t, tempDir(t), m.url)}
		copies.Go(func() error {
			return s.copy(t.Context(), "docker.io/library/skopeos:latest", "dir:"+filepath.Join(s.dir, "image"))
		})
	}
	if err := copies.Wait(); err != nil {
		t.Fatal(err)
	}
	expectOneDownload(t, g, i)
}

// expectOneDownload holds the traffic with the registry to the size of the image, and each blob to one request or to
// requests for different parts of it.
func expectOneDownload(t *testing.T, g *gate, i *image) {
	t.Helper()
	const tolerance = 0.005
	for _, l := range append(slices.Clone(i.layers), i.config) {
		spans := g.fetched(l.digest)
		if twice := repeated(spans); float64(twice) > tolerance*float64(l.size) {
			t.Errorf("%d bytes of the %d of %s came twice: %v", twice, l.size, l.digest, spans)
		}
	}
	t.Logf("requests to the registry: %d for manifests, %d for blobs", len(g.exchanges("", "manifests", "")), len(g.exchanges("", "blobs", "")))
	want := i.size() + i.config.size
	got := g.blobBytes("")
	ratio := float64(got) / float64(want)
	t.Logf("the registry sent %d blob bytes for %d, %.4f times the image", got, want, ratio)
	if math.Abs(ratio-1) > tolerance {
		t.Errorf("the registry sent %.4f times the image's blob bytes, want 1.00", ratio)
	}
}
