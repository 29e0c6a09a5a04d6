package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"mirror/internal/cache"
	"mirror/internal/mirror"
	"mirror/internal/peer"
	"mirror/internal/upstream"
)

const (
	// maxPeerConnections bounds the connections of peers. In a rollout to 5,000 nodes a node talks to some 140 of them.
	maxPeerConnections = 4 << 10
	// documentWithin is how long a peer is kept waiting for a manifest or a tag at most.
	documentWithin = 24 * time.Second
)

// Peers answers the other nodes of the cluster, on a listener of its own: no request of a client reaches it, and no request
// of a peer reaches what clients are served by. It is safe for use by several goroutines.
type Peers struct {
	server *Server
	http   *fasthttp.Server
	crowd  *crowd
	send   *uploads

	draining, stopped atomic.Bool

	mu       sync.Mutex // guards listener, and stopped against Serve
	listener *listener
}

// Peers returns what answers peers for the mirror of s, with so many bytes a second of blobs at most, 0 for no limit. It opens
// no port.
func (s *Server) Peers(upload int64) *Peers {
	p := &Peers{server: s, crowd: newCrowd(s.metrics, maxPeerConnections, maxPeerConnections), send: newUploads(upload)}
	p.http = s.newHTTP("")
	p.http.Handler = p.handle
	p.http.ErrorHandler = func(ctx *fasthttp.RequestCtx, _ error) {
		ctx.Response.SetStatusCode(fasthttp.StatusBadRequest)
		ctx.Response.SetConnectionClose()
	}
	p.http.Concurrency = 2 * maxPeerConnections
	return p
}

// Serve answers peers from ln until Shutdown; then it returns nil. It is called once.
func (p *Peers) Serve(ln net.Listener) error {
	l := newListener(ln, p.crowd, p.server.log)
	p.mu.Lock()
	stopped := p.stopped.Load()
	p.listener = l
	p.mu.Unlock()
	if stopped {
		return l.Close()
	}
	if err := (&attendant{http: p.http, rooms: &p.server.rooms, stopping: &p.stopped}).serve(l); err != nil {
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	}
	return nil
}

// Drain sends peers that ask from now on to other members. What is being sent goes on.
func (p *Peers) Drain() { p.draining.Store(true) }

// Shutdown stops accepting and lets transfers end until ctx does; then it cuts them.
func (p *Peers) Shutdown(ctx context.Context) error {
	p.Drain()
	p.mu.Lock()
	p.stopped.Store(true)
	l := p.listener
	p.mu.Unlock()
	if l == nil {
		return nil
	}
	stopErr := l.Close()
	if p.crowd.disperse(ctx) != nil {
		p.crowd.cut()
	}
	return stopErr
}

// handle answers one request of a peer. The body of a chunk is written after it returns.
func (p *Peers) handle(ctx *fasthttp.RequestCtx) {
	defer func() {
		if reason := recover(); reason != nil {
			p.server.metrics.panics.Inc()
			p.server.log.Error("panic while a peer was answered", "error", fmt.Errorf("%v\n%s", reason, debug.Stack()))
			ctx.Response.Reset()
			ctx.Response.SetStatusCode(fasthttp.StatusInternalServerError)
			ctx.Response.SetConnectionClose()
		}
	}()
	path := string(ctx.URI().PathOriginal())
	switch {
	case path == peer.PathPing:
		ctx.Response.SetStatusCode(fasthttp.StatusNoContent)
	case !strings.HasPrefix(path, peer.Prefix):
		ctx.Response.SetStatusCode(fasthttp.StatusNotFound)
	case p.draining.Load():
		ctx.Response.SetStatusCode(peer.StatusUnable)
	default:
		p.answer(ctx, path)
	}
}

// requestOf is the request as its signature covers it.
func requestOf(ctx *fasthttp.RequestCtx) peer.Request {
	h := &ctx.Request.Header
	return peer.Request{
		Method: string(h.Method()), Target: string(h.RequestURI()), Range: string(h.Peek("Range")), Hop: string(h.Peek(peer.HeaderHop)),
		Dead: string(h.Peek(peer.HeaderDead)), Slow: string(h.Peek(peer.HeaderSlow)),
		OnlyIfCached: string(h.Peek("Cache-Control")) == peer.OnlyIfCached,
	}
}

// answer serves a request whose signature is right.
func (p *Peers) answer(ctx *fasthttp.RequestCtx, path string) {
	r := requestOf(ctx)
	proof, err := p.server.mirror.VerifyPeer(string(ctx.Request.Header.Peek("Authorization")), r)
	if err != nil {
		ctx.Response.SetStatusCode(fasthttp.StatusUnauthorized)
		ctx.Response.SetBodyString(err.Error() + "\n")
		return
	}
	switch {
	case strings.HasPrefix(path, peer.PathBlob):
		err = p.sendChunk(ctx, proof, r)
	case strings.HasPrefix(path, peer.PathManifest):
		err = p.sendManifest(ctx, r)
	case strings.HasPrefix(path, peer.PathTag):
		err = p.sendTag(ctx, proof, r)
	default:
		ctx.Response.SetStatusCode(fasthttp.StatusNotFound)
	}
	if err != nil {
		p.refuse(ctx, err)
	}
}

// refuse says what an error means for a peer. A refusal of an upstream is passed on, so that one answers all who wait; any other failure
// of it is StatusFailed, after which the peer asks another member.
func (p *Peers) refuse(ctx *fasthttp.RequestCtx, err error) {
	if errors.Is(err, peer.ErrMalformed) {
		ctx.Response.SetStatusCode(fasthttp.StatusBadRequest)
		return
	}
	p.server.log.Debug("a peer was refused", "error", err)
	if isOwnTrouble(err) {
		ctx.Response.SetStatusCode(peer.StatusUnable)
		return
	}
	known := refusalFor(err, kindBlob, "")
	status := peer.StatusFailed
	switch known.status {
	case fasthttp.StatusNotFound, fasthttp.StatusForbidden:
		status = known.status
	case fasthttp.StatusTooManyRequests:
		status = known.status
		wait := max(upstream.RetryAfter(err), time.Second)
		ctx.Response.Header.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	ctx.Response.SetStatusCode(status)
}

// ownTroubles are refusals that are this node's and not the upstream's: it is configured in another way than the peer, or
// cannot store anything. The next rank may well have the content.
var ownTroubles = []error{
	mirror.ErrNoUpstream, mirror.ErrNeverHeld, upstream.ErrNotAllowed, upstream.ErrOffline,
	cache.ErrNotFound, cache.ErrClosed, cache.ErrNoRoom, cache.ErrDisk,
}

func isOwnTrouble(err error) bool {
	return slices.ContainsFunc(ownTroubles, func(own error) bool { return errors.Is(err, own) })
}

// sendChunk answers a request for bytes of a chunk.
func (p *Peers) sendChunk(ctx *fasthttp.RequestCtx, proof peer.Proof, r peer.Request) error {
	ask, err := peer.ParseAsk(r)
	if err != nil {
		return err
	}
	offer, err := p.server.mirror.Offer(p.server.work, proof.Sender, ask)
	if err != nil {
		return err
	}
	if offer.Piece != nil && !p.send.enter(p.server.work) {
		if err := offer.Defer(); err != nil {
			return err
		}
	}
	h := &ctx.Response.Header
	ctx.Response.SetStatusCode(offer.Status)
	if offer.Whole {
		h.Set(peer.HeaderWhole, "1")
	}
	if offer.Status == peer.StatusAskOther {
		h.Set(peer.HeaderNode, offer.Node)
		return nil
	}
	if offer.Size >= 0 {
		h.Set(peer.HeaderSize, strconv.FormatInt(offer.Size, 10))
	}
	if offer.Moving > 0 {
		h.Set(peer.HeaderMoving, strconv.Itoa(offer.Moving))
	}
	if offer.Piece == nil {
		return nil
	}
	s := offer.Piece.Span()
	h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", s.Start, s.End-1, offer.Size))
	h.SetContentType(typeOctetStream)
	ctx.Response.SetBodyStream(&chunkBody{offer: offer, peers: p, conn: ctx.Conn()}, int(s.Len()))
	ctx.Response.ImmediateHeaderFlush = true
	return nil
}

// chunkBody writes a chunk to a peer.
type chunkBody struct {
	offer *mirror.Offer
	peers *Peers
	conn  net.Conn
	sent  int64
}

var _ fasthttp.BodyWriterTo = (*chunkBody)(nil)

// Read exists because fasthttp wants a reader. It is never called.
func (b *chunkBody) Read([]byte) (int, error) { return 0, errReadBody }

// SupportsBodyWriteTo tells fasthttp to call WriteTo, which keeps sendfile possible.
func (b *chunkBody) SupportsBodyWriteTo() bool { return true }

// WriteTo writes the chunk. A panic below ends this body, not the process.
func (b *chunkBody) WriteTo(w io.Writer) (n int64, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			b.peers.server.metrics.panics.Inc()
			err = fmt.Errorf("%w: %v\n%s", errBodyPanic, reason, debug.Stack())
		}
	}()
	if s, ok := streamOver(b.conn, w); ok {
		w = s
	}
	b.sent, err = b.peers.send.send(b.peers.server.work, w, b.offer.Piece)
	return b.sent, err
}

// Close lets go of the chunk.
func (b *chunkBody) Close() error {
	b.peers.send.leave()
	b.offer.Sent(b.sent)
	return b.offer.Piece.Close()
}

// sendManifest answers a request for a manifest.
func (p *Peers) sendManifest(ctx *fasthttp.RequestCtx, r peer.Request) error {
	c, err := peer.ParseManifest(r.Target)
	if err != nil {
		return err
	}
	work, cancel := context.WithTimeout(p.server.work, documentWithin)
	defer cancel()
	manifest, err := p.server.mirror.OfferManifest(work, c, r.OnlyIfCached)
	if err != nil {
		return err
	}
	if manifest == nil {
		ctx.Response.SetStatusCode(unheld(r))
		return nil
	}
	ctx.Response.Header.SetContentType(manifest.Descriptor.MediaType)
	ctx.Response.SetBodyRaw(manifest.Body)
	return nil
}

// sendTag answers a request for what a tag names.
func (p *Peers) sendTag(ctx *fasthttp.RequestCtx, proof peer.Proof, r peer.Request) error {
	t, err := peer.ParseTag(r.Target)
	if err != nil {
		return err
	}
	work, cancel := context.WithTimeout(p.server.work, documentWithin)
	defer cancel()
	told, err := p.server.mirror.OfferTag(work, proof, t, r.OnlyIfCached)
	if err != nil {
		return err
	}
	if told == nil {
		ctx.Response.SetStatusCode(unheld(r))
		return nil
	}
	h := &ctx.Response.Header
	h.Set("Docker-Content-Digest", told.Descriptor.Digest.String())
	h.SetContentType(told.Descriptor.MediaType)
	h.Set(peer.HeaderSize, strconv.FormatInt(told.Descriptor.Size, 10))
	h.Set("Age", told.Age)
	h.Set(peer.HeaderSignature, told.Signature)
	return nil
}

// unheld is the status for what is not here: to a peer that wants no more than what is, or takes this node for an owner.
func unheld(r peer.Request) int {
	if r.OnlyIfCached {
		return peer.StatusNotHeld
	}
	return peer.StatusUnable
}
