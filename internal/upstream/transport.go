package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// The numbers of a connection. What they add up to stays below the 25 s within which a client is owed headers: the
// strictest client in wide use gives up after 30 s.
const (
	dialTimeout = 5 * time.Second
	tlsTimeout  = 5 * time.Second
	idleTimeout = 90 * time.Second
	// readBuffer is large because blobs are: measured, small buffers cost a third of the throughput.
	readBuffer        = 256 << 10
	maxResponseHeader = 64 << 10
)

// newTransport returns a transport for HTTP/1.1. One HTTP/2 connection would carry all layers through one window, and
// is half as fast at twice the CPU. Compression is off, because a transparently unpacked body has another digest.
func newTransport(connections int, roots *x509.CertPool, control controlFunc) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, ControlContext: control}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(connections)},
		TLSHandshakeTimeout:    tlsTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    connections,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxResponseHeader,
		ReadBufferSize:         readBuffer,
		Protocols:              protocols,
	}
}

// trustedRoots returns the system's certificates and those of caFile, or nil for the system's alone.
func trustedRoots(caFile string) (*x509.CertPool, error) {
	if caFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read ca_file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("load the system's certificates: %w", err)
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read ca_file %s: no PEM certificate in it", caFile)
	}
	return roots, nil
}

// send makes one request, counted and within limits.requests. It follows nothing and retries nothing.
func (r *Registry) send(ctx context.Context, transport *http.Transport, k kind, req *http.Request) (*http.Response, error) {
	if err := r.limits.Load().request(ctx); err != nil {
		return nil, err
	}
	if transport == r.home && proxied(transport, req) {
		ctx = context.WithValue(ctx, throughProxy{}, true)
	}
	resp, err := transport.RoundTrip(req.WithContext(ctx))
	r.metrics.answered(k, req.Method, resp)
	if err != nil {
		return nil, err
	}
	if k != kindToken && k != kindRedirect {
		if left, ok := r.metrics.remainingIn(resp.Header); ok {
			r.remaining.Store(left)
		}
	}
	return resp, nil
}

// abroad returns the transport for a place that an upstream named, rather than the operator. Where a proxy does the
// dialling, the proxy decides what may be reached, and its own address is often private.
func (r *Registry) abroad(req *http.Request) (*http.Transport, error) {
	if literalPrivate(req.URL) && !r.private.Load() {
		return nil, fmt.Errorf("%w: %s", errPrivateAddress, redactedURL(req.URL))
	}
	if proxied(r.home, req) {
		return r.home, nil
	}
	return r.away, nil
}

// throughProxy marks the context of a request whose connection goes to a proxy.
type throughProxy struct{}

func proxied(t *http.Transport, req *http.Request) bool {
	proxy, err := t.Proxy(req)
	return err == nil && proxy != nil
}

// newRequest builds a request from scratch; nothing of the client's own request is in it.
func (r *Registry) newRequest(ctx context.Context, method string, u *url.URL) *http.Request {
	req := &http.Request{Method: method, URL: u, Host: u.Host, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	req.Header.Set("User-Agent", r.agent)
	req.Header.Set("Accept-Encoding", "identity")
	return req.WithContext(ctx)
}
