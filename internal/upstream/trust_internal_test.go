package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mirror/internal/oci"
)

// authority is a private certificate authority.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue returns a certificate and key in PEM form.
func (a *authority) issue(t *testing.T, name string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}

// guests records who has shown which certificate.
type guests struct {
	mu    sync.Mutex
	names []string
}

func (g *guests) note(req *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	name := "nobody"
	if len(req.TLS.PeerCertificates) > 0 {
		name = req.TLS.PeerCertificates[0].Subject.CommonName
	}
	g.names = append(g.names, name)
}

func (g *guests) all() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.names, " ")
}

// serveTLS starts a server with a certificate of the authority. It asks for client certificates, and insists on them
// when wanted is set.
func serveTLS(t *testing.T, a *authority, wanted *x509.CertPool, handler http.HandlerFunc) string {
	t.Helper()
	certificate, key := a.issue(t, "server")
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	if wanted != nil {
		server.TLS.ClientAuth, server.TLS.ClientCAs = tls.RequireAndVerifyClientCert, wanted
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// certificates are the files that a configuration names.
type certificates struct{ ca, certificate, key string }

func newCertificates(t *testing.T) certificates {
	dir := t.TempDir()
	return certificates{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")}
}

func (c certificates) write(t *testing.T, ca []byte, a *authority, name string) {
	t.Helper()
	certificate, key := a.issue(t, name)
	for file, content := range map[string][]byte{c.ca: ca, c.certificate: certificate, c.key: key} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (c certificates) config(endpoint string) Config {
	return Config{Endpoints: []string{endpoint}, CAFile: c.ca, ClientCertificate: c.certificate, ClientKey: c.key}
}

func TestClientCertificate(t *testing.T) {
	private := newAuthority(t, "private")
	pool := x509.NewCertPool()
	pool.AddCert(private.certificate)
	var atHome, atStorage guests
	storage := serveTLS(t, private, nil, func(_ http.ResponseWriter, req *http.Request) { atStorage.note(req) })
	home := serveTLS(t, private, pool, func(w http.ResponseWriter, req *http.Request) {
		atHome.note(req)
		http.Redirect(w, req, storage+"/blob", http.StatusTemporaryRedirect)
	})
	files := newCertificates(t)
	files.write(t, private.pem, private, "mirror-1")
	r := build(t, files.config(home))
	d := oci.DigestOf(oci.SHA256, nil)
	if _, err := r.HeadBlob(t.Context(), "app", d); err != nil {
		t.Fatal(err)
	}
	if atHome.all() != "mirror-1" || atStorage.all() != "nobody" {
		t.Errorf("the registry saw %s, storage saw %s", atHome.all(), atStorage.all())
	}

	// A new certificate counts after a reload, at once.
	files.write(t, private.pem, private, "mirror-2")
	if err := r.reload(r.config.Limits); err != nil {
		t.Fatal(err)
	}
	if _, err := r.HeadBlob(t.Context(), "app", d); err != nil || atHome.all() != "mirror-1 mirror-2" {
		t.Errorf("the registry saw %s: %v", atHome.all(), err)
	}
}

func TestReloadedAuthority(t *testing.T) {
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	home := serveTLS(t, second, nil, func(http.ResponseWriter, *http.Request) {})
	files := newCertificates(t)
	files.write(t, first.pem, first, "mirror")
	r := build(t, files.config(home))
	d := oci.DigestOf(oci.SHA256, nil)
	if _, err := r.HeadBlob(t.Context(), "app", d); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an unknown authority: %v", err)
	}
	before := r.wire.Load()
	if err := r.reload(r.config.Limits); err != nil || r.wire.Load() != before {
		t.Errorf("connections were dropped though nothing changed: %v", err)
	}
	if err := os.WriteFile(files.ca, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.reload(r.config.Limits); err == nil || !strings.Contains(err.Error(), "upstream reg.example: read ca_file") || r.wire.Load() != before {
		t.Errorf("a broken file: %v, want an error, and what was there", err)
	}
	files.write(t, second.pem, first, "mirror")
	if err := r.reload(r.config.Limits); err != nil {
		t.Error(err)
	}
	r.endpoints[0].breaker = newBreaker(func(bool, time.Duration, error) {})
	if _, err := r.HeadBlob(t.Context(), "app", d); err != nil {
		t.Errorf("after the reload: %v", err)
	}
}

func TestCertificatesThatDoNotFit(t *testing.T) {
	a := newAuthority(t, "private")
	files := newCertificates(t)
	files.write(t, a.pem, a, "mirror")
	_, key := a.issue(t, "another")
	if err := os.WriteFile(files.key, key, 0o600); err != nil {
		t.Fatal(err)
	}
	c := files.config("https://127.0.0.1:1")
	if _, err := readTrust(c); err == nil || !strings.Contains(err.Error(), "client_certificate") || strings.Contains(err.Error(), "PRIVATE") {
		t.Errorf("got %v, want an error about client_certificate", err)
	}
	c.ClientKey = "/nonexistent/key"
	if _, err := readTrust(c); err == nil || !strings.Contains(err.Error(), "read client_key") {
		t.Errorf("got %v, want an error about client_key", err)
	}
}

// TestClientCertificateBehindProxy: the way to storage by a proxy must not carry the certificate of the way home.
func TestClientCertificateBehindProxy(t *testing.T) {
	a := newAuthority(t, "private")
	files := newCertificates(t)
	files.write(t, a.pem, a, "mirror")
	r := build(t, files.config("https://reg.example"))
	w := r.wire.Load()
	if n := len(w.home.TLSClientConfig.Certificates); n != 1 {
		t.Errorf("home shows %d certificates, want 1", n)
	}
	for name, transport := range map[string]*http.Transport{"away": w.away, "relay": w.relay, "cloud": w.cloud} {
		if len(transport.TLSClientConfig.Certificates) != 0 {
			t.Errorf("%s shows the client certificate", name)
		}
	}
}

// TestMetadataIsNotLookedForBehindProxy: its addresses are this machine's, wherever the proxy is.
func TestMetadataIsNotLookedForBehindProxy(t *testing.T) {
	proxy := &url.URL{Scheme: "http", Host: "proxy.example:3128"}
	home := &http.Transport{Proxy: http.ProxyURL(proxy)}
	f := func(address string, want *url.URL) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := cloudProxy(home, req); err != nil || got != want {
			t.Errorf("%s goes by %v, want %v", address, got, want)
		}
	}
	f("http://169.254.169.254/latest/api/token", nil)
	f("http://[fd00:ec2::23]/v1/credentials", nil)
	f("http://127.0.0.1:1234/credentials", nil)
	f("http://metadata.google.internal/computeMetadata/v1/", nil)
	f("https://api.ecr.eu-central-1.amazonaws.com/", proxy)
}
