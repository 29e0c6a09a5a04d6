//go:build e2e

package e2e_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// gate is a reverse proxy in front of a registry: the distant, slow and unreliable part of the world. It counts what
// crosses it and breaks on demand. All its methods may be called while requests cross it.
type gate struct {
	url       string
	backend   *url.URL
	transport *http.Transport

	mu      sync.Mutex
	server  *http.Server // nil while switched off
	latency time.Duration
	rate    int64 // bytes per second on each connection, 0 for no limit
	held    chan struct{}
	faults  map[string]*fault
	seen    []*exchange
}

// fault is what happens to the content of one digest.
type fault struct {
	cutAfter int64 // body bytes after which the connection is closed
	cuts     int   // how many bodies are cut; the ones after them are whole
	stall    bool  // the connection stays open instead, and nothing more comes
	flip     int64 // offset in the content of a byte that arrives wrong, -1 for none
}

// newGate starts a gate in front of a registry for the length of a test.
func newGate(t *testing.T, r *registry) *gate {
	t.Helper()
	g := &gate{
		backend:   &url.URL{Scheme: "http", Host: r.addr},
		transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		faults:    map[string]*fault{},
	}
	g.listen(t, address(t))
	t.Cleanup(func() {
		g.stop()
		g.transport.CloseIdleConnections()
	})
	return g
}

type connKey struct{}

func (g *gate) listen(t *testing.T, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: g, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		// Bytes that wait in the kernel count as delivered: keep them few.
		_ = c.(*net.TCPConn).SetWriteBuffer(64 << 10)
		return context.WithValue(ctx, connKey{}, &pace{})
	}}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.server, g.url = server, "http://"+ln.Addr().String()
	go func() { _ = server.Serve(ln) }() // It returns when stop closes the server.
}

// stop switches the registry off: connections break, new ones are refused.
func (g *gate) stop() {
	g.mu.Lock()
	server := g.server
	g.server = nil
	g.mu.Unlock()
	g.release()
	if server != nil {
		_ = server.Close()
	}
}

// start switches the registry on again, at the same address.
func (g *gate) start(t *testing.T) {
	t.Helper()
	g.listen(t, g.url[len("http://"):])
}

// shape sets the time that each request takes before it is looked at, and the rate of each connection.
func (g *gate) shape(latency time.Duration, rate int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.latency, g.rate = latency, rate
}

// hold lets requests in and leaves them without an answer until release.
func (g *gate) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = make(chan struct{})
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held != nil {
		close(g.held)
	}
	g.held = nil
}

// cut closes the connection after n body bytes of a digest's content, for so many bodies.
func (g *gate) cut(digest string, n int64, times int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults[digest] = &fault{cutAfter: n, cuts: times, flip: -1}
}

// stall sends n body bytes of a digest's content and then nothing more, for the first body only.
func (g *gate) stall(digest string, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults[digest] = &fault{cutAfter: n, cuts: 1, flip: -1, stall: true}
}

// corrupt changes one byte of a digest's content on the way.
func (g *gate) corrupt(digest string, offset int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults[digest] = &fault{flip: offset}
}

// repair ends all faults.
func (g *gate) repair() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.faults)
}

// ServeHTTP passes a request on and its answer back.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := g.record(r)
	if !g.admit(r.Context()) {
		panic(http.ErrAbortHandler)
	}
	res, err := g.forward(r)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer res.Body.Close()
	x.answered(res)
	for key, values := range res.Header {
		w.Header()[key] = values
	}
	w.WriteHeader(res.StatusCode)
	if err := g.copy(w, r, res, x); err != nil {
		panic(http.ErrAbortHandler) // Closes the connection before the announced length.
	}
}

// admit makes the request wait as long as the way to a distant registry takes, or until release.
func (g *gate) admit(ctx context.Context) bool {
	g.mu.Lock()
	latency, held := g.latency, g.held
	g.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return false
		}
	}
	select {
	case <-time.After(latency):
		return true
	case <-ctx.Done():
		return false
	}
}

func (g *gate) forward(r *http.Request) (*http.Response, error) {
	p := &httputil.ProxyRequest{In: r, Out: r.Clone(r.Context())}
	p.SetURL(g.backend)
	p.Out.RequestURI = ""
	return g.transport.RoundTrip(p.Out)
}

// copy passes the body on at the connection's pace, with the faults of its digest.
func (g *gate) copy(w http.ResponseWriter, r *http.Request, res *http.Response, x *exchange) error {
	g.mu.Lock()
	f, rate := g.faults[x.digest()], g.rate
	limit := int64(1 << 62)
	if r.Method == http.MethodGet {
		limit = f.passing()
	}
	g.mu.Unlock()
	pacer := r.Context().Value(connKey{}).(*pace)
	buffer := make([]byte, 32<<10)
	for limit > 0 {
		n, readErr := res.Body.Read(buffer[:min(limit, int64(len(buffer)))])
		f.apply(buffer[:n], x.offset())
		pacer.wait(n, rate)
		x.add(n) // Before the client can know, so that no count is read too early.
		if _, err := w.Write(buffer[:n]); err != nil {
			return err
		}
		_ = http.NewResponseController(w).Flush()
		limit -= int64(n)
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return readErr
		}
	}
	if f.stall {
		<-r.Context().Done()
	}
	return io.ErrUnexpectedEOF
}

// passing returns how many bytes of the next body may pass. The caller holds the gate's lock.
func (f *fault) passing() int64 {
	if f == nil || f.cuts == 0 {
		return 1 << 62
	}
	f.cuts--
	return f.cutAfter
}

// apply changes the byte that the fault names, when data, which starts at offset of the content, holds it.
func (f *fault) apply(data []byte, offset int64) {
	if f == nil || f.flip < offset || f.flip >= offset+int64(len(data)) {
		return
	}
	data[f.flip-offset] ^= 0x01
}

// pace spreads what a connection carries over time.
type pace struct {
	mu   sync.Mutex
	next time.Time
}

// wait returns when n more bytes may go at the rate given, in bytes per second.
func (p *pace) wait(n int, rate int64) {
	if rate == 0 {
		return
	}
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	due := p.next
	p.next = p.next.Add(time.Duration(n) * time.Second / time.Duration(rate))
	p.mu.Unlock()
	time.Sleep(due.Sub(now))
}
