package server_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/catalog"
	"mirror/internal/mirror"
	"mirror/internal/peer"
	"mirror/internal/server"
	"mirror/internal/units"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

func TestMain(m *testing.M) {
	// A stopped fasthttp server keeps one goroutine that sleeps up to ten seconds before it looks.
	// One that writes headers outside of a server, as a benchmark does, keeps one that looks at the clock.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// testID is the instance id of the mirror under test, as it stands in Via headers.
const testID = "test-instance"

// harness is a server over a real mirror, with two registries behind it: docker.io, which is the default, and ghcr.io,
// which also has the virtual host ghcr.test.
type harness struct {
	t        testing.TB
	hub      *upstreamtest.Registry
	ghcr     *upstreamtest.Registry
	cache    *cache.Cache
	dir      string             // of the cache
	up       *upstream.Registry // docker.io
	server   *server.Server
	registry *prometheus.Registry
	logs     *logBuffer
	addr     string
	served   chan error
	stop     sync.Once
	clients  []*client
}

// options change what newHarness builds.
type options struct {
	server server.Config
	memory units.Bytes   // longest blob in memory
	fresh  time.Duration // how long a tag of docker.io is fresh
	level  slog.Level    // of the log; everything when zero
	ahead  bool          // docker.io fetches ahead
	peers  *peer.Exchange
	// hub and disk change the configuration of docker.io and of the cache.
	hub  func(*upstream.Config)
	disk func(*cache.Config)
}

func newHarness(t testing.TB) *harness { return newHarnessWith(t, options{}) }

func newHarnessWith(t testing.TB, o options) *harness {
	t.Helper()
	h := &harness{t: t, hub: upstreamtest.New(t), ghcr: upstreamtest.New(t),
		registry: prometheus.NewRegistry(), logs: new(logBuffer), served: make(chan error, 1)}
	m := h.newMirror(o)
	o.server.Listen = "127.0.0.1:0"
	if o.level == 0 {
		o.level = slog.LevelDebug
	}
	log := slog.New(slog.NewJSONHandler(h.logs, &slog.HandlerOptions{Level: o.level}))
	s, err := server.New(o.server, m, "0.0.0-test", log, h.registry)
	if err != nil {
		t.Fatal(err)
	}
	h.server = s
	h.serve()
	return h
}

// newMirror builds what the server stands on, each part with its clean-up.
func (h *harness) newMirror(o options) *mirror.Mirror {
	t := h.t
	cfg := cachetest.Config(t)
	if o.memory != 0 {
		cfg.Memory.MaxBlob = o.memory
	}
	if o.disk != nil {
		o.disk(&cfg)
	}
	h.cache, h.dir = cachetest.Open(t, cfg), cfg.Dir
	quiet := slog.New(slog.DiscardHandler)
	names, err := catalog.Open(catalog.Config{Dir: t.TempDir()}, quiet, h.registry)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = names.Close() })
	hub := upstream.Config{Registry: "docker.io", Default: true, Endpoints: []string{h.hub.URL}}.WithDefaults()
	ghcr := upstream.Config{Registry: "ghcr.io", Hosts: []string{"ghcr.test"}, Endpoints: []string{h.ghcr.URL}}.WithDefaults()
	hub.Prefetch = o.ahead
	if o.fresh != 0 {
		hub.Tags.FreshFor = o.fresh
	}
	if o.hub != nil {
		o.hub(&hub)
	}
	set, err := upstream.New([]upstream.Config{hub, ghcr}, "0.0.0-test", testID, quiet, h.registry)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	h.up, _ = set.Lookup("docker.io")
	m := mirror.New(mirror.Parts{Cache: h.cache, Catalog: names, Upstreams: set, ID: testID, Peers: o.peers, ShareTags: o.peers != nil}, quiet, h.registry)
	t.Cleanup(m.Close)
	return m
}

func (h *harness) serve() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.addr = ln.Addr().String()
	go func() { h.served <- h.server.Serve(ln) }()
	h.t.Cleanup(h.close)
}

// close stops the server with time for what is running, and checks that Serve returns nil.
func (h *harness) close() {
	h.stop.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.server.Shutdown(ctx); err != nil {
			h.t.Errorf("shutdown: %v", err)
		}
		if err := <-h.served; err != nil {
			h.t.Errorf("serve: %v", err)
		}
	})
}

// upstreamRequests is how many requests both registries have seen.
func (h *harness) upstreamRequests() int { return len(h.hub.Requests()) + len(h.ghcr.Requests()) }

// answer is a response that was read to its end.
type answer struct {
	*http.Response
	body []byte
	// err is how reading the body ended; nil at the announced end.
	err error
}

// patience is how long a client waits for anything. Real ones wait 30 s for headers, and are owed them within 25.
const patience = 25 * time.Second

// dial opens a connection that ends with the test.
func (h *harness) dial() *client {
	h.t.Helper()
	return h.dialTo(h.addr)
}

// dialTo is dial for another port of the server.
func (h *harness) dialTo(addr string) *client {
	h.t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	own := &client{t: h.t, Conn: c, in: bufio.NewReader(c)}
	h.clients = append(h.clients, own)
	return own
}

// closeClients ends all connections that dial has opened.
func (h *harness) closeClients() {
	for _, c := range h.clients {
		_ = c.Close()
	}
}

// client is one connection to the server, for requests that no HTTP client would send.
type client struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

// send writes raw bytes. An error is not reported: the server may refuse before it has read everything.
func (c *client) send(raw string) { _, _ = io.WriteString(c.Conn, raw) }

// read reads one response to a request with the given method.
func (c *client) read(method string) answer {
	c.t.Helper()
	response, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("read response: %v", err)
	}
	body, err := io.ReadAll(response.Body)
	return answer{response, body, err}
}

// ended reports whether the server closes the connection in an orderly way without sending more.
func (c *client) ended() bool {
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	rest, err := io.ReadAll(c.in)
	return err == nil && len(rest) == 0
}

// raw sends bytes on a connection of their own and reads one response.
func (h *harness) raw(method, request string) answer {
	h.t.Helper()
	c := h.dial()
	defer c.Close()
	c.send(request)
	return c.read(method)
}

// request builds a request; headers are whole lines.
func request(method, target string, headers ...string) string {
	lines := append([]string{method + " " + target + " HTTP/1.1", "Host: mirror.test"}, headers...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// get asks for a target on a connection of its own.
func (h *harness) get(target string, headers ...string) answer {
	h.t.Helper()
	return h.raw("GET", request("GET", target, headers...))
}

// head asks for the headers of a target.
func (h *harness) head(target string, headers ...string) answer {
	h.t.Helper()
	return h.raw("HEAD", request("HEAD", target, headers...))
}

// want fails the test when the answer does not have the status.
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("got status %d, want %d; body %q", a.StatusCode, status, cutBody(a.body))
	}
	return a
}

func cutBody(body []byte) []byte { return body[:min(len(body), 300)] }

// wantBody fails the test when the body is not exactly want.
func (a answer) wantBody(t testing.TB, want []byte) {
	t.Helper()
	if a.err != nil || !bytes.Equal(a.body, want) {
		t.Fatalf("got %d bytes (%v), want %d bytes that are the content", len(a.body), a.err, len(want))
	}
}

// wantHeader fails the test when a header is not exactly want.
func (a answer) wantHeader(t testing.TB, name, want string) {
	t.Helper()
	if got := a.Header.Get(name); got != want {
		t.Errorf("got %s %q, want %q", name, got, want)
	}
}

// metric returns the sum of all children of a metric whose labels include those given.
func (h *harness) metric(name string, labels ...string) float64 {
	h.t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			have := " "
			for _, l := range m.GetLabel() {
				have += l.GetName() + "=" + l.GetValue() + " "
			}
			all := true
			for _, l := range labels {
				all = all && strings.Contains(have, " "+l+" ")
			}
			if all {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// eventually waits for something that another goroutine does soon.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not after 10s: %s", what)
		}
	}
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// lines returns the lines that hold all of the words.
func (b *logBuffer) lines(words ...string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []string
	for line := range strings.Lines(b.text.String()) {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			found = append(found, line)
		}
	}
	return found
}

// pattern returns bytes that differ at every offset of interest.
func pattern(n int) []byte {
	content := make([]byte, n)
	for i := range content {
		content[i] = byte(i*7 + i>>8)
	}
	return content
}

// blobPath is the address of a blob.
func blobPath(repo string, digest fmt.Stringer) string {
	return "/v2/" + repo + "/blobs/" + digest.String()
}

// manifestPath is the address of a manifest.
func manifestPath(repo, reference string) string { return "/v2/" + repo + "/manifests/" + reference }
