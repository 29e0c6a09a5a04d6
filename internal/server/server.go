package server

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"mirror/internal/mirror"
	"mirror/internal/oci"
)

const (
	// headersWithin is how long a client waits for headers at most. containerd gives up after 30 seconds.
	headersWithin = 25 * time.Second
	// readWithin bounds how long a request takes to arrive, and idleFor how long a connection stays without one.
	readWithin = 30 * time.Second
	idleFor    = 90 * time.Second
	// maxRequestBody is how much of a body on GET is read and ignored; a pull needs none.
	maxRequestBody = 64 << 10
	// maxRequestHeaders bounds request line and headers together. Bearer tokens of some clouds are several KiB long.
	maxRequestHeaders = 32 << 10
	// endsWithin is how long a stop waits for requests whose connections it has cut.
	endsWithin = time.Second
)

// Server answers the registry API on the listeners it is given. It is safe for use by several goroutines.
type Server struct {
	mirror   *mirror.Mirror
	log      *slog.Logger
	metrics  *metrics
	access   *accessLog
	crowd    *crowd
	identity *identity // nil without TLS
	http     *fasthttp.Server

	// work is the context of everything that is done for requests; it ends when a stop has waited long enough.
	work     context.Context
	stopWork context.CancelFunc

	// Request ids are a random prefix for the process and a number.
	idPrefix string
	requests atomic.Uint64
	// buffers holds *[]byte of copyBuffer bytes for TLS connections.
	buffers sync.Pool
	// rooms holds *room for what is read ahead of fasthttp.
	rooms sync.Pool
	// writers holds *bufio.Writer for long quick answers.
	writers sync.Pool
	routes  *routeTable
	// preamble is what follows the status of a quick answer.
	preamble string

	mu        sync.Mutex // guards listeners, and draining against Serve
	listeners []*listener
	draining  atomic.Bool
}

// New builds a server over m. It reads the TLS files, and opens no port. version goes out in the Server header.
func New(cfg Config, m *mirror.Mirror, version string, log *slog.Logger, reg prometheus.Registerer) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	id, err := newIdentity(cfg.TLS)
	if err != nil {
		return nil, err
	}
	metrics, err := newMetrics(reg)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	log = log.With("component", "server")
	s := &Server{
		mirror:   m,
		log:      log,
		metrics:  metrics,
		access:   newAccessLog(log, metrics.accessLost),
		crowd:    newCrowd(metrics, maxConnections, maxFromAddress),
		identity: id,
		idPrefix: rand.Text()[:10] + "-",
	}
	s.buffers.New = func() any { buffer := make([]byte, copyBuffer); return &buffer }
	s.rooms.New = func() any { return new(room) }
	s.writers.New = func() any { return bufio.NewWriter(nil) }
	s.routes = newRouteTable()
	s.preamble = "\r\nServer: mirror/" + version + "\r\nContent-Type: "
	s.work, s.stopWork = context.WithCancel(context.Background())
	s.http = s.newHTTP("mirror/" + version)
	return s, nil
}

// newHTTP sets fasthttp up. What it can do itself but does wrong, such as limits for each address, stays off.
func (s *Server) newHTTP(name string) *fasthttp.Server {
	return &fasthttp.Server{
		Name:         name,
		Handler:      s.handle,
		ErrorHandler: s.answerMalformed,
		Logger:       quietLogger{s.log},
		// Other methods are refused before their body is read.
		GetOnly: true,
		// A streamed body that is not read to its end would be taken for the next request.
		StreamRequestBody:            false,
		DisablePreParseMultipartForm: true,
		MaxRequestBodySize:           maxRequestBody,
		ReadBufferSize:               maxRequestHeaders,
		ReadTimeout:                  readWithin,
		IdleTimeout:                  idleFor,
		// Connections bring their own deadlines; one for a whole answer would cut every large layer.
		WriteTimeout: 0,
		// The crowd is what bounds connections. fasthttp's own bound must never be reached: it answers from the accept loop.
		Concurrency: 2 * maxConnections,
		// It reads the first byte of a request alone then, with no buffer in its hands: the place where a connection comes back
		// from it. It knows no listener and no stop.
		ReduceMemoryUsage:     true,
		ConnState:             lentPhase,
		NoDefaultContentType:  true,
		NoDefaultDate:         true,
		SecureErrorLogMessage: true,
	}
}

// Serve answers requests from ln, which must yield TCP connections, until Shutdown; then it returns nil. It may be
// called for several listeners.
func (s *Server) Serve(ln net.Listener) error {
	l := newListener(ln, s.crowd, s.log)
	l.usual = unpace(ln)
	if !s.enlist(l) {
		return l.Close()
	}
	s.access.run()
	var secured net.Listener = l
	if s.identity != nil {
		secured = s.identity.listen(l)
	}
	if err := (&attendant{s.http, &s.rooms, s, &s.draining}).serve(secured); err != nil {
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	}
	return nil
}

// enlist keeps a listener for Shutdown, unless that has come before.
func (s *Server) enlist(l *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	s.listeners = append(s.listeners, l)
	return true
}

// Shutdown stops accepting and lets transfers in flight finish until ctx ends; then it closes every connection and
// returns an error that says how many. A request that comes meanwhile on an open connection is refused with 503. The
// server cannot be used again.
func (s *Server) Shutdown(ctx context.Context) error {
	stopErr := s.stopAccepting()
	err := s.crowd.disperse(ctx)
	if err != nil {
		if busy := s.crowd.cut(); busy > 0 {
			err = fmt.Errorf("drain: %d connections were cut: %w", busy, err)
		} else {
			err = nil // those that were left had nothing to do
		}
	}
	s.stopWork()
	s.awaitLast()
	s.access.close()
	return errors.Join(stopErr, err)
}

func (s *Server) stopAccepting() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining.Store(true)
	var errs []error
	for _, l := range s.listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// awaitLast gives requests whose connections were cut a moment to notice. One that waits for bytes of a fill notices
// only when the cache is closed, which is the caller's next step.
func (s *Server) awaitLast() {
	for deadline := time.Now().Add(endsWithin); s.crowd.size() > 0 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}

// Reload reads the TLS files again. When they are bad the old ones stay in use.
func (s *Server) Reload() error {
	if s.identity == nil {
		return nil
	}
	return s.identity.reload()
}

// handle answers one request. The body is written after it returns.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	x := s.begin(ctx)
	// fasthttp does not recover from a panic in a handler: it would end the process.
	defer x.recoverPanic()
	if err := s.serve(x); err != nil {
		x.refuse(err)
	}
	if s.draining.Load() {
		ctx.Response.SetConnectionClose()
	}
	x.end()
}

// serve takes a request through its steps.
func (s *Server) serve(x *exchange) error {
	// A server that is stopping sends its clients away, to the next mirror.
	if s.draining.Load() {
		return &refusal{status: 503, code: oci.Unavailable, retryAfter: ownRetryAfter, hangUp: true,
			message: "this mirror is stopping: try again, or use the next one"}
	}
	// What could be understood in two ways, or goes round in circles, is refused before anything is done for it.
	if err := checkFraming(x); err != nil {
		return err
	}
	if err := checkLoop(&x.ctx.Request.Header, s.mirror.ID()); err != nil {
		return err
	}
	// From here on there are domain values only.
	if err := s.routeExchange(x); err != nil {
		return err
	}
	x.announceNamespace()
	ctx, cancel := context.WithTimeout(mirror.WithVia(s.work, viaOf(&x.ctx.Request.Header)), headersWithin)
	defer cancel()
	return s.dispatch(ctx, x)
}

// routeExchange finds out what is asked for, and keeps it for the record.
func (s *Server) routeExchange(x *exchange) error {
	uri := x.ctx.URI()
	if len(uri.Hash()) > 0 {
		return nameInvalid("the path holds a '#'")
	}
	var err error
	x.route, err = parseRoute(s.mirror, uri.PathOriginal(), uri.QueryString(), uri.Host())
	x.rec.kind, x.rec.repository, x.rec.reference = x.route.kind, x.route.repository, x.route.reference
	return err
}

func (s *Server) dispatch(ctx context.Context, x *exchange) error {
	switch x.route.kind {
	case kindManifest:
		return s.serveManifest(ctx, x)
	case kindBlob:
		return s.serveBlob(ctx, x)
	case kindTags:
		return s.serveTags(ctx, x)
	case kindReferrers:
		return s.serveReferrers(ctx, x)
	}
	// A ping never depends on an upstream, and never asks for credentials: clients would send those of the registry.
	x.sendDocument(typeJSON, []byte("{}"))
	return nil
}

// recoverPanic answers 500 when the handler panicked, and closes the connection: its state is not known any more.
func (x *exchange) recoverPanic() {
	reason := recover()
	if reason == nil {
		return
	}
	x.server.metrics.panics.Inc()
	r := internalFault()
	r.hangUp, r.cause = true, fmt.Errorf("panic: %v\n%s", reason, debug.Stack())
	x.refuse(r)
	x.end()
}

// finish closes the record of a request whose answer is over.
func (s *Server) finish(r *record) {
	r.duration = time.Since(r.started)
	s.metrics.ended(r)
	s.access.add(r)
}

// quietLogger takes what fasthttp says about connections. Nothing of it needs an operator: clients leave, send rubbish,
// and bodies that fail are logged where they fail.
type quietLogger struct {
	log *slog.Logger
}

// Printf writes a debug line.
func (l quietLogger) Printf(format string, args ...any) {
	l.log.Debug(fmt.Sprintf(format, args...))
}
