package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
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
func newTransport(connections int, t trust, control controlFunc) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, ControlContext: control}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        t.config(connections),
		TLSHandshakeTimeout:    tlsTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    connections,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxResponseHeader,
		ReadBufferSize:         readBuffer,
		Protocols:              protocols,
	}
}

// send makes one request, counted and within limits.requests. It follows nothing and retries nothing.
func (r *Registry) send(ctx context.Context, transport *http.Transport, k kind, req *http.Request) (*http.Response, error) {
	if err := r.limits.Load().request(ctx); err != nil {
		return nil, err
	}
	return r.roundTrip(ctx, transport, k, req)
}

// sendHome is send for an endpoint, whose time to headers it measures.
func (r *Registry) sendHome(ctx context.Context, e *endpoint, k kind, req *http.Request) (*http.Response, error) {
	if err := r.limits.Load().request(ctx); err != nil {
		return nil, err
	}
	begin := time.Now()
	resp, err := r.roundTrip(ctx, r.wire.Load().home, k, req)
	if cause := context.Cause(ctx); err == nil || errors.Is(cause, errSlow) || errors.Is(cause, errHurried) {
		e.pace.add(time.Since(begin))
	}
	return resp, err
}

// roundTrip makes one request, counted.
func (r *Registry) roundTrip(ctx context.Context, transport *http.Transport, k kind, req *http.Request) (*http.Response, error) {
	if proxied(transport, req) {
		ctx = context.WithValue(ctx, throughProxy{}, true)
	}
	resp, err := transport.RoundTrip(req.WithContext(ctx))
	r.metrics.answered(k, req.Method, resp)
	return resp, err
}

// wire is the ways from here to an upstream. It is replaced as a whole when certificates change; what is under way ends
// on the old one.
type wire struct {
	trust trust
	home  *http.Transport // to the endpoints; shows the client certificate
	away  *http.Transport // to where an upstream points; refuses private addresses
	relay *http.Transport // the same by way of a proxy, which decides itself
	cloud *http.Transport // to the services that give out credentials
}

func (r *Registry) newWire(t trust) *wire {
	connections := r.config.Limits.Connections
	stranger := t
	stranger.certificate = nil // a client certificate is a credential, and those stay home
	w := &wire{
		trust: t,
		home:  newTransport(connections, t, r.noting),
		away:  newTransport(connections, stranger, r.guarding),
		relay: newTransport(connections, stranger, nil),
		cloud: newTransport(1, stranger, nil),
	}
	w.away.Proxy = nil // abroad decides about proxies
	w.relay.Proxy = func(req *http.Request) (*url.URL, error) { return w.home.Proxy(req) }
	w.cloud.Proxy = func(req *http.Request) (*url.URL, error) { return cloudProxy(w.home, req) }
	return w
}

// close ends the connections that no request holds, and those that are given back later.
func (w *wire) close() {
	for _, t := range []*http.Transport{w.home, w.away, w.relay, w.cloud} {
		t.CloseIdleConnections()
	}
}

// elsewhere returns the transport for a host that is not an endpoint's.
func (w *wire) elsewhere(req *http.Request) *http.Transport {
	if proxied(w.home, req) {
		return w.relay
	}
	return w.away
}

// abroad returns the transport for a place that an upstream named, rather than the operator. Where a proxy does the
// dialling, the proxy decides what may be reached, and its own address is often private.
func (r *Registry) abroad(req *http.Request) (*http.Transport, error) {
	if literalPrivate(req.URL) && !r.private.Load() {
		return nil, fmt.Errorf("%w: %s", errPrivateAddress, redactedURL(req.URL))
	}
	return r.wire.Load().elsewhere(req), nil
}

// named marks the context of a request to a host that the operator has named, wherever that is.
type named struct{}

// throughProxy marks the context of a request whose connection goes to a proxy.
type throughProxy struct{}

func proxied(t *http.Transport, req *http.Request) bool {
	if t.Proxy == nil {
		return false
	}
	proxy, err := t.Proxy(req)
	return err == nil && proxy != nil
}

// newRequest builds a request from scratch; nothing of the client's own request is in it.
func (r *Registry) newRequest(ctx context.Context, method string, u *url.URL) *http.Request {
	req := &http.Request{Method: method, URL: u, Host: u.Host, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	r.dress(req)
	return req.WithContext(ctx)
}

// dress adds what every request has.
func (r *Registry) dress(req *http.Request) {
	req.Header.Set("User-Agent", r.agent)
	req.Header.Set("Accept-Encoding", "identity")
}
