package node_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"mirror/internal/admin"
	"mirror/internal/node"
	"mirror/internal/units"
	"mirror/internal/upstream/upstreamtest"
)

// TestPinSurvivesRestartAndPressure pins an image, restarts the node, pulls many times the limit through it, and has the
// image without the upstream.
func TestPinSurvivesRestartAndPressure(t *testing.T) {
	const layer = 4 << 20
	origin := upstreamtest.New(t)
	pinned := origin.AddImage("library/debian", "12", layer)
	cfg := configFor(t, origin)
	cfg.Cache.MaxSize = 16 * units.MiB
	first := start(t, cfg)
	pullAll(t, first, "library/debian", pinned)
	client := clientOf(t, first)
	if _, err := client.Pin(t.Context(), "debian@"+pinned.Digest.String()); err != nil {
		t.Fatal(err)
	}
	client.Close()
	stop(t, first)

	second := start(t, cfg)
	for range 12 {
		pullAll(t, second, "library/pressure", origin.AddImage("library/pressure", "", layer))
	}
	origin.Stop()
	pullAll(t, second, "library/debian", pinned)
	status, err := clientOf(t, second).Status(t.Context())
	if err != nil || status.Cache.Disk.Bytes > int64(cfg.Cache.MaxSize) {
		t.Errorf("the disk has %d bytes, %v, want at most %v", status.Cache.Disk.Bytes, err, cfg.Cache.MaxSize)
	}
}

// clientOf returns a client of a node's admin listener that closes itself with the test.
func clientOf(t *testing.T, n *node.Node) *admin.Client {
	t.Helper()
	client, err := admin.NewClient("http://" + n.AdminAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// pullAll pulls an image by digest, and reads every byte.
func pullAll(t *testing.T, n *node.Node, repo string, image upstreamtest.Image) {
	t.Helper()
	path := "/v2/" + repo
	if status, body := get(t, n.Addr(), path+"/manifests/"+image.Digest.String()); status != http.StatusOK || !bytes.Equal(body, image.Manifest) {
		t.Fatalf("manifest: got %d, %q", status, body)
	}
	for _, c := range append(image.Layers, image.Config) {
		if status, body := get(t, n.Addr(), path+"/blobs/"+c.Digest.String()); status != http.StatusOK || !bytes.Equal(body, c.Bytes) {
			t.Fatalf("blob: got %d, %d bytes", status, len(body))
		}
	}
}

// TestAPIWhileDraining: what is about to stop is not changed any more, although operators are still answered.
func TestAPIWhileDraining(t *testing.T) {
	origin := upstreamtest.New(t)
	layer := origin.AddImage("library/debian", "12", unreadSize).Layers[0]
	n := start(t, configFor(t, origin))
	if status, body := get(t, n.AdminAddr(), "/api/v1/status"); status != http.StatusOK {
		t.Errorf("while serving: %d, %s", status, body)
	}
	response, err := http.Get("http://" + n.Addr().String() + "/v2/library/debian/blobs/" + layer.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	closed := make(chan error, 1)
	go func() { closed <- n.Close(t.Context()) }()
	waitFor(t, "the API to refuse", func() bool {
		status, _ := get(t, n.AdminAddr(), "/api/v1/status")
		return status == http.StatusServiceUnavailable
	})
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
