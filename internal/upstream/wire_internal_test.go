package upstream

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"mirror/internal/oci"
	"mirror/internal/upstream/upstreamtest"
)

// build returns the client for one upstream.
func build(t *testing.T, c Config) *Registry {
	t.Helper()
	c.Registry = "reg.example"
	set, err := New([]Config{c}, "1.2.3", "node-1", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	r, _ := set.Lookup("reg.example")
	return r
}

// resolving returns a dial function for which names have the addresses of test servers. control sees them as it would
// see those of the name service.
func resolving(control controlFunc, hosts map[string]string) func(context.Context, string, string) (net.Conn, error) {
	dialer := &net.Dialer{ControlContext: control}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		target, ok := hosts[host]
		if !ok {
			return nil, errors.New("no such host: " + host)
		}
		return dialer.DialContext(ctx, network, target)
	}
}

func password(t *testing.T) Credentials {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Credentials{Username: "robot", PasswordFile: file}
}

// TestSubdomainGetsNoCredentials uses names, as net/http's own client sends credentials on to subdomains.
func TestSubdomainGetsNoCredentials(t *testing.T) {
	origin, storage := upstreamtest.New(t), upstreamtest.New(t)
	blob := []byte("some bytes")
	d := origin.AddBlob("app", blob)
	storage.AddBlob("app", blob)
	origin.RequireBasic("robot", "s3cret")
	origin.Hook(func(req *http.Request) *upstreamtest.Fault {
		if req.Header.Get("Authorization") == "" {
			return nil
		}
		return &upstreamtest.Fault{Redirect: "http://cdn.reg.example/cdn/" + d.String() + "?repository=app"}
	})
	r := build(t, Config{Endpoints: []string{"http://reg.example"}, Credentials: password(t)})
	r.wire.Load().home.DialContext = resolving(r.noting, map[string]string{"reg.example": origin.Host})
	r.wire.Load().away.DialContext = resolving(r.guarding, map[string]string{"cdn.reg.example": storage.Host})
	body, err := r.Blob(t.Context(), "app", d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || string(got) != string(blob) {
		t.Errorf("got %q, %v", got, err)
	}
	request := storage.Requests()[0]
	if request.Host != "cdn.reg.example" || request.Header.Get("Authorization") != "" {
		t.Errorf("%s was sent Authorization %q", request.Host, request.Header.Get("Authorization"))
	}
}

func TestSameHostRedirectKeepsCredentials(t *testing.T) {
	origin := upstreamtest.New(t)
	d := origin.AddBlob("team/app", []byte("some bytes"))
	origin.RequireBasic("robot", "s3cret")
	origin.Hook(func(req *http.Request) *upstreamtest.Fault {
		if req.Header.Get("Authorization") == "" || strings.Contains(req.URL.Path, "/team/") {
			return nil
		}
		return &upstreamtest.Fault{Redirect: strings.Replace(req.URL.Path, "/v2/", "/v2/team/", 1)}
	})
	r := build(t, Config{Endpoints: []string{origin.URL}, Credentials: password(t)})
	if size, err := r.HeadBlob(t.Context(), "app", d); err != nil || size != 10 {
		t.Errorf("got %d, %v", size, err)
	}
}

// TestTokenServiceOfTheDomain: like auth.docker.io for registry-1.docker.io.
func TestTokenServiceOfTheDomain(t *testing.T) {
	origin, service := upstreamtest.New(t), upstreamtest.New(t)
	service.RequireToken("robot", "s3cret")
	origin.RequireToken("robot", "s3cret")
	origin.SetChallenge(`Bearer realm="http://auth.reg.example/token",service="x"`)
	f := func(name string, private bool, want int) {
		t.Run(name, func(t *testing.T) {
			service.Reset()
			r := build(t, Config{Endpoints: []string{"http://reg.example"}, Credentials: password(t)})
			control := r.noting
			if !private {
				control = nil
			}
			r.wire.Load().home.DialContext = resolving(control, map[string]string{"reg.example": origin.Host})
			r.wire.Load().away.DialContext = resolving(r.guarding, map[string]string{"auth.reg.example": service.Host})
			_, err := r.Manifest(t.Context(), "app", oci.Reference{Tag: "1"})
			if got := service.Count(upstreamtest.Token, "GET"); got != want {
				t.Errorf("%d token requests, want %d: %v", got, want, err)
			}
			if want == 0 && !errors.Is(err, ErrDenied) {
				t.Errorf("got %v, want ErrDenied", err)
			}
			for _, request := range service.Requests() {
				if request.Header.Get("Via") != "" {
					t.Error("the token service was sent Via")
				}
			}
		})
	}
	f("in a private network", true, 1)
	f("private service of a public registry", false, 0)
}

// TestPrivateRedirect: a registry at a public address must not send us to a private one. The test registry's address is
// not noted, which makes it look public.
func TestPrivateRedirect(t *testing.T) {
	victim := upstreamtest.New(t)
	port := victim.Host[strings.LastIndex(victim.Host, ":"):]
	for _, target := range []string{
		victim.URL + "/x", "http://localhost" + port + "/x", "http://[::ffff:127.0.0.1]" + port + "/x", "http://169.254.169.254/x",
		"http://0.0.0.0" + port + "/x", "http://10.0.0.1/x",
	} {
		t.Run(target, func(t *testing.T) {
			origin := upstreamtest.New(t)
			d := origin.AddBlob("app", []byte("x"))
			origin.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{Redirect: target})
			r := build(t, Config{Endpoints: []string{origin.URL}})
			r.wire.Load().home = newTransport(4, trust{}, nil)
			defer r.wire.Load().home.CloseIdleConnections()
			_, err := r.Blob(t.Context(), "app", d, 0, -1)
			if !errors.Is(err, ErrWrongContent) || !errors.Is(err, errPrivateAddress) {
				t.Errorf("got %v, want a refusal", err)
			}
		})
	}
	if n := len(victim.Requests()); n != 0 {
		t.Errorf("%d requests reached a private address", n)
	}
}

// secure starts a TLS server and returns its URL and a file with its certificate.
func secure(t *testing.T, handler http.HandlerFunc) (address, caFile string) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(caFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return server.URL, caFile
}

func TestTLS(t *testing.T) {
	target := ""
	address, caFile := secure(t, func(w http.ResponseWriter, req *http.Request) {
		if req.ProtoMajor != 1 {
			t.Errorf("spoke %s, want HTTP/1.1", req.Proto)
		}
		if target != "" {
			http.Redirect(w, req, target, http.StatusTemporaryRedirect)
		}
	})
	d := oci.DigestOf(oci.SHA256, nil)
	t.Run("trusted", func(t *testing.T) {
		if _, err := build(t, Config{Endpoints: []string{address}, CAFile: caFile}).HeadBlob(t.Context(), "app", d); err != nil {
			t.Error(err)
		}
	})
	t.Run("unknown certificate", func(t *testing.T) {
		if _, err := build(t, Config{Endpoints: []string{address}}).HeadBlob(t.Context(), "app", d); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	})
	t.Run("redirect to plain http", func(t *testing.T) {
		victim := upstreamtest.New(t)
		target = victim.URL + "/x"
		_, err := build(t, Config{Endpoints: []string{address}, CAFile: caFile}).HeadBlob(t.Context(), "app", d)
		if !errors.Is(err, ErrWrongContent) || len(victim.Requests()) != 0 {
			t.Errorf("got %v, want ErrWrongContent and no request", err)
		}
	})
}

// short is how long the tests of timeouts wait: long enough for a loaded machine to answer where an answer is due.
const short = time.Second

func TestHeaderTimeout(t *testing.T) {
	t.Parallel()
	origin := upstreamtest.New(t)
	origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Hang: true})
	r := build(t, Config{Endpoints: []string{origin.URL}})
	r.times.header = short
	_, err := r.Manifest(t.Context(), "app", oci.Reference{Tag: "1"})
	if !errors.Is(err, ErrTimeout) || errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
	if n := origin.Count(upstreamtest.Manifest, ""); n != 1 || r.Available() {
		t.Errorf("%d requests, available %v: want one, and the breaker open", n, r.Available())
	}
}

func TestTimeoutGoesToNextEndpoint(t *testing.T) {
	t.Parallel()
	slow, good := upstreamtest.New(t), upstreamtest.New(t)
	slow.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Hang: true})
	good.AddImage("app", "1")
	r := build(t, Config{Endpoints: []string{slow.URL, good.URL}})
	r.times.header = short
	if _, err := r.Manifest(t.Context(), "app", oci.Reference{Tag: "1"}); err != nil {
		t.Error(err)
	}
}

func TestNoEndpointIsBlamedForTheTimeOfOthers(t *testing.T) {
	t.Parallel()
	slow, good := upstreamtest.New(t), upstreamtest.New(t)
	slow.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Hang: true})
	r := build(t, Config{Endpoints: []string{slow.URL, good.URL}})
	r.times.header, r.times.total, r.times.least = short, 3*short, 3*short
	if _, err := r.Manifest(t.Context(), "app", oci.Reference{Tag: "1"}); !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
	if h := r.Health(); h.Endpoints[0].State != "open" || h.Endpoints[1].State != "closed" || len(good.Requests()) != 0 {
		t.Errorf("health: %+v", h)
	}
}

func TestTrickle(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 10)
	origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{StallAfter: 10})
	r := build(t, Config{Endpoints: []string{origin.URL}})
	r.times.document = 100 * time.Millisecond
	if _, err := r.Manifest(t.Context(), "app", oci.Reference{Tag: "1"}); !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	origin := upstreamtest.New(t)
	d := origin.AddBlob("app", make([]byte, 10_000))
	origin.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{StallAfter: 1000})
	r := build(t, Config{Endpoints: []string{origin.URL}})
	r.times.stall = short
	body, err := r.Blob(t.Context(), "app", d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if len(got) != 1000 || !errors.Is(err, ErrTimeout) || errors.Is(err, context.Canceled) {
		t.Errorf("got %d bytes, %v, want 1000 and ErrTimeout", len(got), err)
	}
	if !strings.HasPrefix(err.Error(), "upstream reg.example: ") {
		t.Errorf("error does not begin with its upstream: %v", err)
	}
}

// TestAllConnectionsBusy: waiting for a connection of our own says nothing about the endpoint.
func TestAllConnectionsBusy(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	d := origin.AddBlob("app", make([]byte, 10_000))
	origin.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{StallAfter: 10})
	r := build(t, Config{Endpoints: []string{origin.URL}, Limits: Limits{Connections: 1, BlobConnections: 1}})
	body, err := r.Blob(t.Context(), "app", d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.HeadManifest(ctx, "app", oci.Reference{Tag: "1"}); !errors.Is(err, errBusy) {
		t.Errorf("got %v, want errBusy", err)
	}
	if !r.Available() {
		t.Error("the breaker opened")
	}
	_ = body.Close()
	if _, err := r.HeadManifest(t.Context(), "app", oci.Reference{Tag: "1"}); err != nil {
		t.Error(err)
	}
}

// TestLayersLeaveRoomForChecks: blobs that take all the places they may take do not hold up a manifest.
func TestLayersLeaveRoomForChecks(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	d := origin.AddBlob("app", make([]byte, 10_000))
	origin.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{StallAfter: 10})
	r := build(t, Config{Endpoints: []string{origin.URL}, Limits: Limits{Connections: 4, BlobConnections: 1}})
	r.times.total = 50 * time.Millisecond // how long a blob waits for a place
	var bodies []*Body
	for range 3 {
		body, err := r.Blob(t.Context(), "app", d, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, body)
	}
	if _, err := r.Blob(t.Context(), "app", d, 0, -1); !errors.Is(err, errBusy) {
		t.Errorf("a fourth blob: %v, want errBusy", err)
	}
	r.times.total = time.Minute
	if _, err := r.HeadManifest(t.Context(), "app", oci.Reference{Tag: "1"}); err != nil {
		t.Error(err)
	}
	for _, body := range bodies {
		_ = body.Close()
		_ = body.Close() // gives its place back once
	}
	body, err := r.Blob(t.Context(), "app", d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	_ = body.Close()
}

// TestReloadedLimits: what holds a place gives it back to the limit that it got it from.
func TestReloadedLimits(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	d := origin.AddBlob("app", make([]byte, 10_000))
	origin.Fail(upstreamtest.Blob, 1, upstreamtest.Fault{StallAfter: 10})
	r := build(t, Config{Endpoints: []string{origin.URL}, Limits: Limits{Connections: 1, BlobConnections: 1}})
	stalled, err := r.Blob(t.Context(), "app", d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.reload(Limits{Connections: 2, BlobConnections: 2})
	if r.BlobConnections() != 2 {
		t.Errorf("%d connections for one blob, want 2", r.BlobConnections())
	}
	for range 3 {
		if _, err := r.HeadManifest(t.Context(), "app", oci.Reference{Tag: "1"}); err != nil {
			t.Fatal(err)
		}
	}
	_ = stalled.Close()
	if n := r.limits.Load().connections.inUse(); n != 0 {
		t.Errorf("%d places are taken, want none", n)
	}
}

func TestRequestLimit(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	r := build(t, Config{Endpoints: []string{origin.URL}, Limits: Limits{Requests: 1}})
	r.limits.Load().requests.SetLimit(rate.Every(time.Hour))
	if _, err := r.HeadManifest(t.Context(), "app", oci.Reference{Tag: "1"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.HeadManifest(ctx, "app", oci.Reference{Tag: "1"}); !errors.Is(err, ErrTooManyRequests) {
		t.Errorf("got %v, want ErrTooManyRequests", err)
	}
	if n := len(origin.Requests()); n != 1 || !r.Available() {
		t.Errorf("%d requests, available %v", n, r.Available())
	}
}

// TestTokenOutlivesItsFirstAsker: a client that goes away must not take the token of the others along.
func TestTokenOutlivesItsFirstAsker(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.RequireToken("", "")
	arrived, release := make(chan struct{}), make(chan struct{})
	origin.Hook(func(req *http.Request) *upstreamtest.Fault {
		if upstreamtest.KindOf(req) == upstreamtest.Token {
			close(arrived)
			<-release
		}
		return nil
	})
	r := build(t, Config{Endpoints: []string{origin.URL}})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := r.HeadManifest(ctx, "app", oci.Reference{Tag: "1"})
		first <- err
	}()
	<-arrived
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	close(release)
	if _, err := r.HeadManifest(t.Context(), "app", oci.Reference{Tag: "1"}); err != nil {
		t.Error(err)
	}
	if n := origin.Count(upstreamtest.Token, ""); n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}

func TestTokensStayFew(t *testing.T) {
	var kept tokens
	for i := range maxTokens + 10 {
		kept.keep(tokenKey{scope: strings.Repeat("x", i%7) + string(rune(i))}, "t", time.Hour)
	}
	if n := len(kept.kept); n > maxTokens {
		t.Errorf("%d tokens kept, want at most %d", n, maxTokens)
	}
}

// TestProxy: behind a proxy, what is dialled is the proxy, and its address says nothing about the registry. The test
// registry itself plays the proxy, as the path is all it looks at.
func TestProxy(t *testing.T) {
	origin := upstreamtest.New(t)
	d := origin.AddBlob("app", []byte("some bytes"))
	proxy, err := url.Parse(origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := build(t, Config{Endpoints: []string{"http://reg.example"}})
	r.wire.Load().home.Proxy = http.ProxyURL(proxy)
	target := "http://storage.example/cdn/" + d.String() + "?repository=app"
	origin.Hook(func(req *http.Request) *upstreamtest.Fault {
		if upstreamtest.KindOf(req) == upstreamtest.Blob {
			return &upstreamtest.Fault{Redirect: target}
		}
		return nil
	})
	if size, err := r.HeadBlob(t.Context(), "app", d); err != nil || size != 10 {
		t.Errorf("got %d, %v", size, err)
	}
	target = "http://10.0.0.1/cdn/x"
	if _, err := r.HeadBlob(t.Context(), "app", d); !errors.Is(err, errPrivateAddress) {
		t.Errorf("got %v, want a refusal: the registry is not private, only the proxy is", err)
	}
}

// TestRecovery: the breaker lets a request through when its pause is over, and one good answer closes it.
func TestRecovery(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	r := build(t, Config{Endpoints: []string{origin.URL}})
	origin.Stop()
	for range 2 {
		if _, err := r.HeadManifest(t.Context(), "app", oci.Reference{Tag: "1"}); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	}
	if r.Available() {
		t.Error("available while switched off")
	}
	origin.Start()
	b := r.endpoints[0].breaker
	b.mu.Lock()
	b.since = b.since.Add(-breakerFirst) // the pause is over
	b.mu.Unlock()
	if !r.Available() {
		t.Error("not available when the pause is over")
	}
	if _, err := r.HeadManifest(t.Context(), "app", oci.Reference{Tag: "1"}); err != nil {
		t.Error(err)
	}
	if h := r.Health(); h.Endpoints[0].State != "closed" || h.Endpoints[0].LastError != "" {
		t.Errorf("health: %+v", h)
	}
}
