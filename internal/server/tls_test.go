package server_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/server"
)

func dialQuietly(addr string) (net.Conn, error) { return net.DialTimeout("tcp", addr, 5*time.Second) }

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// keyPair writes a self-signed certificate for 127.0.0.1 and its key, under a name.
func keyPair(t *testing.T, dir, name string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	writePEM(t, certificate, "CERTIFICATE", der)
	writePEM(t, key, "PRIVATE KEY", secret)
	return certificate, key
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// secureClient trusts the certificate in a file.
func secureClient(t *testing.T, certificate string, own ...tls.Certificate) *http.Client {
	t.Helper()
	text, err := os.ReadFile(certificate)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: own}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

func TestTLS(t *testing.T) {
	certificate, key := keyPair(t, t.TempDir(), "first")
	h := newHarnessWith(t, options{server: server.Config{TLS: server.TLSConfig{Certificate: certificate, Key: key}}})
	content := pattern(5 << 20)
	d := h.hub.AddBlob("org/app", content)
	client := secureClient(t, certificate)
	for range 2 {
		response, err := client.Get("https://" + h.addr + blobPath("org/app", d))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		answer{response, body, err}.want(t, 200).wantBody(t, content)
		if response.ProtoMajor != 1 {
			t.Errorf("got %s: HTTP/2 must not be offered", response.Proto)
		}
		h.stored(d)
	}
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	certificate, key := keyPair(t, dir, "first")
	h := newHarnessWith(t, options{server: server.Config{TLS: server.TLSConfig{Certificate: certificate, Key: key}}})
	if got := servedName(t, h.addr); got != "first" {
		t.Fatalf("got certificate %q", got)
	}
	keyPair(t, dir, "second")
	if got := servedName(t, h.addr); got != "first" {
		t.Errorf("before the reload: got %q", got)
	}
	if err := h.server.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := servedName(t, h.addr); got != "second" {
		t.Errorf("after the reload: got %q", got)
	}
	if err := os.WriteFile(key, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.server.Reload(); err == nil || !strings.Contains(err.Error(), "server.tls.key") {
		t.Errorf("a bad key: got %v, want an error that names the setting", err)
	}
	if got := servedName(t, h.addr); got != "second" {
		t.Errorf("after a bad reload: got %q", got)
	}
}

// servedName is the name in the certificate that a new connection gets.
func servedName(t *testing.T, addr string) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestClientCertificates(t *testing.T) {
	certificate, key := keyPair(t, t.TempDir(), "both")
	h := newHarnessWith(t, options{server: server.Config{TLS: server.TLSConfig{Certificate: certificate, Key: key, ClientCA: certificate}}})
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	response, err := secureClient(t, certificate, pair).Get("https://" + h.addr + "/v2/")
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("with a certificate: %v, %v", response, err)
	}
	_ = response.Body.Close()
	if response, err := secureClient(t, certificate).Get("https://" + h.addr + "/v2/"); err == nil {
		_ = response.Body.Close()
		t.Error("a client without a certificate was served")
	}
}

func TestBadTLSFiles(t *testing.T) {
	certificate, key := keyPair(t, t.TempDir(), "x")
	f := func(files server.TLSConfig, want string) {
		t.Helper()
		_, err := server.New(server.Config{Listen: ":0", TLS: files}, nil, "x", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q in it", files, err, want)
		}
	}
	f(server.TLSConfig{Certificate: certificate}, "belong together")
	f(server.TLSConfig{Certificate: certificate, Key: key + "x"}, "server.tls.certificate")
	f(server.TLSConfig{Certificate: key, Key: key}, "server.tls.certificate")
	f(server.TLSConfig{Certificate: certificate, Key: key, ClientCA: key}, "server.tls.client_ca")
	f(server.TLSConfig{Certificate: certificate, Key: key, ClientCA: key + "x"}, "server.tls.client_ca")
}

// TestSilentConnectionsDoNotStopTheOthers is about connections that never finish their handshake: none of them may keep
// the accept loop from the next client.
func TestSilentConnectionsDoNotStopTheOthers(t *testing.T) {
	certificate, key := keyPair(t, t.TempDir(), "x")
	h := newHarnessWith(t, options{server: server.Config{TLS: server.TLSConfig{Certificate: certificate, Key: key}}})
	for range 20 {
		h.dial()
	}
	eventually(t, "all are accepted", func() bool { return h.metric("mirror_connections") == 20 })
	response, err := secureClient(t, certificate).Get("https://" + h.addr + "/v2/")
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("got %v, %v", response, err)
	}
	_ = response.Body.Close()
	for _, rubbish := range []string{"GET /v2/ HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff", "\x00"} {
		c := h.dial()
		c.send(rubbish)
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		_, _ = io.ReadAll(c.in)
	}
	servedName(t, h.addr)
	// The handshakes that nobody finishes are ended here, and not by the server's patience.
	h.closeClients()
}

func TestConfig(t *testing.T) {
	f := func(c server.Config, want string) {
		t.Helper()
		err := c.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", c, err, want)
		}
	}
	f(server.Config{Listen: "127.0.0.1:5000", DrainTimeout: time.Second}, "")
	f(server.Config{Listen: ":0"}, "")
	f(server.Config{Listen: "[::1]:5000"}, "")
	f(server.Config{}, "host:port")
	f(server.Config{Listen: "127.0.0.1"}, "host:port")
	f(server.Config{Listen: ":http"}, "must be a number")
	f(server.Config{Listen: ":65536"}, "must be a number")
	f(server.Config{Listen: ":0", DrainTimeout: -1}, "must not be negative")
	f(server.Config{Listen: ":0", TLS: server.TLSConfig{Key: "k"}}, "belong together")
	f(server.Config{Listen: ":0", TLS: server.TLSConfig{ClientCA: "c"}}, "needs a certificate")
}

// TestRequestsThroughTLS sends requests for hits in memory and others, in one record and in many, and ends its side at once.
func TestRequestsThroughTLS(t *testing.T) {
	certificate, key := keyPair(t, t.TempDir(), "one")
	h := newHarnessWith(t, options{server: server.Config{TLS: server.TLSConfig{Certificate: certificate, Key: key}}})
	h.hub.AddImage("org/app", "1", 100)
	raw := request("GET", "/v2/org/app/manifests/1")
	dial := func() *client {
		c, err := tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return &client{t: t, Conn: c, in: bufio.NewReader(c)}
	}
	for begin := time.Now(); server.Quick(h.server, raw) == nil && time.Since(begin) < patience; time.Sleep(5 * time.Millisecond) {
		c := dial()
		c.send(raw)
		c.read("GET").want(t, 200)
		_ = c.Close()
	}
	requests := []string{raw, request("GET", "/v2/org/app/manifests/1", own), raw, request("GET", "/v2/"), raw}
	all := strings.Join(requests, "")
	for _, piece := range []int{len(all), 1000, 97, 1} {
		c := dial()
		for rest := all; rest != ""; {
			n := min(piece, len(rest))
			c.send(rest[:n])
			rest = rest[n:]
		}
		_ = c.Conn.(*tls.Conn).CloseWrite()
		for range requests {
			c.read("GET").want(t, 200)
		}
		if rest, err := io.ReadAll(c.in); len(rest) > 0 || err != nil {
			t.Errorf("pieces of %d: %d bytes after the last answer, %v", piece, len(rest), err)
		}
	}
}
