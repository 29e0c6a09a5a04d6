package server

import (
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"mirror/internal/mirror"
	"mirror/internal/oci"
)

// maxRequestID is the longest request id of a client that is echoed and logged, in bytes.
const maxRequestID = 128

// exchange is one request while its handler runs. It must not outlive the handler: fasthttp uses ctx again.
type exchange struct {
	server *Server
	ctx    *fasthttp.RequestCtx
	route  route
	rec    *record
}

// begin starts the record of a request and sets what every answer carries.
func (s *Server) begin(ctx *fasthttp.RequestCtx) *exchange {
	x := &exchange{server: s, ctx: ctx, rec: &record{
		request: s.requestID(ctx),
		client:  ctx.RemoteAddr(),
		method:  methodOf(ctx),
		started: time.Now(),
	}}
	commonHeaders(&ctx.Response.Header, x.rec.request)
	return x
}

func methodOf(ctx *fasthttp.RequestCtx) method {
	switch {
	case ctx.IsGet():
		return methodGet
	case ctx.IsHead():
		return methodHead
	}
	return methodOther
}

// requestID takes the client's id when it is sane, so that a trace goes through, or makes one.
func (s *Server) requestID(ctx *fasthttp.RequestCtx) string {
	if sent := ctx.Request.Header.Peek("X-Request-Id"); saneID(sent) {
		return string(sent)
	}
	return string(s.appendRequestID(nil, nil))
}

// appendRequestID appends the id that a client has sent, or a new one.
func (s *Server) appendRequestID(b, sent []byte) []byte {
	if len(sent) > 0 {
		return append(b, sent...)
	}
	return strconv.AppendUint(append(b, s.idPrefix...), s.requests.Add(1), 36)
}

func saneID(id []byte) bool {
	for _, c := range id {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(id) > 0 && len(id) <= maxRequestID
}

// end counts the answer and, unless a body will follow it, closes the record.
func (x *exchange) end() {
	rec := x.rec
	rec.status = x.ctx.Response.StatusCode()
	x.server.metrics.answered(rec)
	if x.ctx.Response.IsBodyStream() {
		return
	}
	if rec.method == methodHead && rec.found {
		x.server.metrics.firstByte(rec)
	}
	if rec.method != methodHead {
		rec.sent = int64(len(x.ctx.Response.Body()))
	}
	x.server.finish(rec)
}

// isHead reports whether the request wants headers only.
func (x *exchange) isHead() bool { return x.rec.method == methodHead }

// set sets a header of the answer.
func (x *exchange) set(name, value string) { x.ctx.Response.Header.Set(name, value) }

// lookedUp keeps and announces where content came from.
func (x *exchange) lookedUp(d oci.Digest, outcome mirror.Outcome, source mirror.Source) {
	x.rec.foundAt(outcome, source)
	contentHeaders(&x.ctx.Response.Header, d, outcome, source)
}

// notModified reports whether the client has content d already.
func (x *exchange) notModified(d oci.Digest) bool {
	return matchesAny(x.ctx.Request.Header.PeekAll("If-None-Match"), d)
}

// sendNotModified answers 304, which has no body and says nothing of one.
func (x *exchange) sendNotModified() {
	x.ctx.Response.SetStatusCode(fasthttp.StatusNotModified)
}

// sendDocument answers with a small body that is made here or fetched whole, such as a list.
func (x *exchange) sendDocument(contentType string, body []byte) {
	x.ctx.Response.Header.SetContentType(contentType)
	x.ctx.Response.SetBodyRaw(body)
	// fasthttp sets this for its own HEAD requests, but not when it reports a request that it could not read.
	x.ctx.Response.SkipBody = x.isHead()
}

// refuse answers with an error instead of whatever was prepared.
func (x *exchange) refuse(err error) {
	r := refusalFor(err, x.route.kind, x.route.repository.Registry)
	x.rec.err = err
	dropContentHeaders(&x.ctx.Response.Header)
	x.ctx.Response.SetStatusCode(r.status)
	if r.status == fasthttp.StatusMethodNotAllowed {
		x.set("Allow", "GET, HEAD")
	}
	if r.retryAfter > 0 {
		x.set("Retry-After", strconv.FormatInt(int64((r.retryAfter+time.Second-1)/time.Second), 10))
	}
	if r.contentRange != "" {
		x.set("Content-Range", r.contentRange)
	}
	if r.hangUp {
		x.hangUp()
	}
	x.sendDocument(typeJSON, r.body())
}

// announceNamespace says which registry the answer is about, when the request named one.
func (x *exchange) announceNamespace() {
	if x.route.namespace != "" {
		x.set("OCI-Namespace", x.route.namespace)
	}
}

// hangUp closes the connection after the answer, in a way that lets the client read it even when some of its request
// was left unread.
func (x *exchange) hangUp() {
	x.ctx.Response.SetConnectionClose()
	lingerOf(x.ctx.Conn())
}
