package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mirror/internal/catalog"
	"mirror/internal/config"
	"mirror/internal/node"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// configFor returns a configuration on free ports, with a directory of its own, that mirrors one registry.
func configFor(t *testing.T, origin *upstreamtest.Registry) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.Server.Listen, cfg.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Cache.Dir = filepath.Join(t.TempDir(), "data")
	up := upstream.Config{Registry: "docker.io", Default: true, Endpoints: []string{"http://127.0.0.1:1"}}
	if origin != nil {
		up.Endpoints[0] = origin.URL
	}
	cfg.Upstreams = []upstream.Config{up.WithDefaults()}
	return cfg
}

// start starts a node that stops with the test, at the latest.
func start(t *testing.T, cfg config.Config) *node.Node {
	t.Helper()
	n, err := node.New(cfg, "v0.0.0-test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, n) })
	return n
}

func stop(t *testing.T, n *node.Node) {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	if err := n.Close(context.Background()); err != nil {
		t.Errorf("close: %v", err)
	}
}

// get returns the status and the body of an answer.
func get(t *testing.T, addr net.Addr, path string) (int, []byte) {
	t.Helper()
	response, err := http.Get("http://" + addr.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return response.StatusCode, body
}

func TestPullThroughANode(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("library/debian", "12", 300_000)
	n := start(t, configFor(t, origin))

	for range 2 {
		status, body := get(t, n.Addr(), "/v2/library/debian/manifests/12")
		if status != http.StatusOK || !bytes.Equal(body, image.Manifest) {
			t.Errorf("manifest: got %d, %q", status, body)
		}
		layer := image.Layers[0]
		status, body = get(t, n.Addr(), "/v2/library/debian/blobs/"+layer.Digest.String())
		if status != http.StatusOK || !bytes.Equal(body, layer.Bytes) {
			t.Errorf("layer: got %d, %d bytes", status, len(body))
		}
	}
	if got := origin.Count(upstreamtest.Blob, http.MethodGet); got != 1 {
		t.Errorf("the upstream was asked for the layer %d times, want once", got)
	}
}

func TestReadyWhileServing(t *testing.T) {
	n := start(t, configFor(t, nil))
	if status, body := get(t, n.AdminAddr(), "/readyz"); status != http.StatusOK {
		t.Errorf("got %d, %s, want 200", status, body)
	}
}

// TestContentOutlivesTheNode restarts a node on the same directory.
func TestContentOutlivesTheNode(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("library/debian", "12", 300_000)
	cfg := configFor(t, origin)
	path := "/v2/library/debian/blobs/" + image.Layers[0].Digest.String()
	first := start(t, cfg)
	get(t, first.Addr(), path)
	stop(t, first)

	origin.Stop()
	second := start(t, cfg)
	if status, body := get(t, second.Addr(), path); status != http.StatusOK || !bytes.Equal(body, image.Layers[0].Bytes) {
		t.Errorf("got %d, %d bytes", status, len(body))
	}
}

// unreadSize is more than the buffers between a server and a client hold: a client that does not read keeps a transfer
// of it in flight.
const unreadSize = 32 << 20

// TestDrain stops a node while a client is in the middle of a layer.
// TestOffline restarts a node with its registry offline. What is held is served, the rest is an error that says why, and
// the registry hears nothing.
func TestOffline(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("library/debian", "12", 30_000)
	index := origin.AddIndex("library/debian", "13", image, origin.AddImage("library/debian", "", 30_000))
	const repository = "/v2/library/debian/"
	layer := repository + "blobs/" + image.Layers[0].Digest.String()
	cfg := configFor(t, origin)
	first := start(t, cfg)
	for _, path := range []string{repository + "manifests/12", repository + "manifests/13", layer} {
		if status, body := get(t, first.Addr(), path); status != http.StatusOK {
			t.Fatalf("%s: got %d, %s", path, status, body)
		}
	}
	stop(t, first)
	origin.Reset()

	cfg.Upstreams[0].Offline = true
	second := start(t, cfg)
	f := func(path string, status int, want ...string) {
		t.Helper()
		response, err := http.Get("http://" + second.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		said := fmt.Sprint(response.Header.Get("X-Cache"), " ", response.Header.Get("Warning"), " ", string(body))
		if response.StatusCode != status {
			t.Errorf("%s: got %d, %s, want %d", path, response.StatusCode, body, status)
		}
		for _, words := range want {
			if !strings.Contains(said, words) {
				t.Errorf("%s says %q, want %q in it", path, said, words)
			}
		}
	}
	f(repository+"manifests/12", http.StatusOK, "STALE", "299 - ", "docker.io is offline")
	f(repository+"manifests/"+image.Digest.String(), http.StatusOK, "HIT")
	f(layer, http.StatusOK, "HIT")
	f(repository+"manifests/11", http.StatusNotFound, "MANIFEST_UNKNOWN", "offline")
	f(repository+"blobs/"+index.Images[1].Layers[0].Digest.String(), http.StatusNotFound, "BLOB_UNKNOWN", "offline")
	f(repository+"manifests/"+index.Images[1].Digest.String(), http.StatusServiceUnavailable, "UNAVAILABLE", "offline")
	f(repository+"tags/list", http.StatusServiceUnavailable, "UNAVAILABLE", "offline")
	if status, body := get(t, second.AdminAddr(), "/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: got %d, %s, want 200", status, body)
	}
	if _, body := get(t, second.AdminAddr(), "/api/v1/status"); !bytes.Contains(body, []byte(`"available":false,"offline":true`)) {
		t.Errorf("/api/v1/status: %s", body)
	}
	if n := len(origin.Requests()); n != 0 {
		t.Errorf("%d requests went to a registry that is offline", n)
	}
}

func TestDrain(t *testing.T) {
	origin := upstreamtest.New(t)
	layer := origin.AddImage("library/debian", "12", unreadSize).Layers[0]
	n := start(t, configFor(t, origin))

	response, err := http.Get("http://" + n.Addr().String() + "/v2/library/debian/blobs/" + layer.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	closed := make(chan error, 1)
	go func() { closed <- n.Close(context.Background()) }()

	waitFor(t, "readiness to go false", func() bool {
		status, body := get(t, n.AdminAddr(), "/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(string(body), "draining")
	})
	waitFor(t, "new connections to be refused", func() bool {
		conn, err := net.Dial("tcp", n.Addr().String())
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if body, err := io.ReadAll(response.Body); err != nil || !bytes.Equal(body, layer.Bytes) {
		t.Errorf("the transfer in flight got %d of %d bytes, %v", len(body), len(layer.Bytes), err)
	}
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestDrainEnds stops a node whose upstream never sends the rest.
func TestDrainEnds(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("library/debian", "12", 4<<20)
	origin.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{StallAfter: 2 << 20})
	cfg := configFor(t, origin)
	cfg.Server.DrainTimeout = 50 * time.Millisecond
	n := start(t, cfg)

	response, err := http.Get("http://" + n.Addr().String() + "/v2/library/debian/blobs/" + image.Layers[0].Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	stop(t, n)
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("the client took %d bytes for the whole layer", len(body))
	}
}

func TestTwoNodesInOneProcess(t *testing.T) {
	first, second := start(t, configFor(t, nil)), start(t, configFor(t, nil))
	for _, n := range []*node.Node{first, second} {
		if status, _ := get(t, n.Addr(), "/v2/"); status != http.StatusOK {
			t.Errorf("%s answered %d", n.Addr(), status)
		}
	}
}

func TestStartSaysWhichKeyToChange(t *testing.T) {
	f := func(key string, change func(cfg *config.Config, taken string)) {
		t.Helper()
		other, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		cfg := configFor(t, nil)
		change(&cfg, other.Addr().String())
		n, err := node.New(cfg, "v0.0.0-test", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "change "+key) {
			t.Errorf("got %v, want an error that says to change %s", err, key)
		}
		// What was begun is undone: the same directory can be opened by the next one.
		cfg.Server.Listen, cfg.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0"
		stop(t, start(t, cfg))
	}
	f("server.listen", func(cfg *config.Config, taken string) { cfg.Server.Listen = taken })
	f("admin.listen", func(cfg *config.Config, taken string) { cfg.Admin.Listen = taken })
}

// TestDirectoryHasOneOwner starts a second node on the directory of a running one, which must not notice.
func TestDirectoryHasOneOwner(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("library/debian", "12", 1000)
	cfg := configFor(t, origin)
	first := start(t, cfg)
	second, err := node.New(cfg, "v0.0.0-test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); !errors.Is(err, catalog.ErrInUse) || !strings.Contains(err.Error(), "set cache.dir to another") {
		t.Errorf("got %v, want that another process owns the directory, and what to do", err)
	}
	status, _ := get(t, first.Addr(), "/v2/library/debian/blobs/"+image.Layers[0].Digest.String())
	if status != http.StatusOK {
		t.Errorf("the first node answers %d", status)
	}
}

func TestStartRefusesCancelledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n, err := node.New(configFor(t, nil), "v0.0.0-test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the context was cancelled", err)
	}
}

func TestNewRefusesInvalidConfiguration(t *testing.T) {
	cfg := configFor(t, nil)
	cfg.Log.Level = "loud"
	if _, err := node.New(cfg, "v0.0.0-test", slog.New(slog.DiscardHandler)); err == nil {
		t.Error("accepted")
	}
}

func TestReload(t *testing.T) {
	log := new(lines)
	cfg := configFor(t, nil)
	n, err := node.New(cfg, "v0.0.0-test", slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	cfg.Upstreams = slices.Clone(cfg.Upstreams)
	for i := range cfg.Upstreams {
		cfg.Upstreams[i].Limits.Connections = 3
	}
	cfg.Log.Level = "debug"
	if err := n.Reload(cfg); err != nil || strings.Contains(log.String(), "restart") {
		t.Errorf("limits and log level: %v\n%s", err, log.String())
	}
	cfg.Server.DrainTimeout++
	if err := n.Reload(cfg); err != nil || !strings.Contains(log.String(), "restart") {
		t.Errorf("what needs a restart: %v\n%s", err, log.String())
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// waitFor asks again and again, without a bound of its own: a test that hangs is ended by the test runner.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for !done() {
		select {
		case <-t.Context().Done():
			t.Fatalf("waiting for %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
