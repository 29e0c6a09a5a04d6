package server

import (
	"context"

	"github.com/valyala/fasthttp"

	"mirror/internal/mirror"
	"mirror/internal/oci"
)

// serveBlob answers a blob request: from the cache, or from a fill while it runs.
func (s *Server) serveBlob(ctx context.Context, x *exchange) error {
	d := x.route.reference.Digest
	// A client that has the bytes, and one that wants headers only, must not cause a download.
	if x.isHead() || x.notModified(d) {
		return s.statBlob(ctx, x)
	}
	blob, err := s.mirror.Blob(ctx, x.route.repository, d)
	if err != nil {
		return err
	}
	x.rec.foundAt(blob.Outcome, blob.Source)
	// Asked once: a size that is not known yet may become known at any moment.
	size := blob.Size()
	spans, err := x.spansOf(d, size)
	if err != nil {
		_ = blob.Close()
		return err
	}
	x.blobHeaders(d, blob.Outcome, blob.Source)
	x.sendParts(blob, size, spans)
	// Bytes that are still arriving are not waited for: the client gets the headers at once.
	x.ctx.Response.ImmediateHeaderFlush = blob.Source != mirror.Disk && blob.Bytes() == nil
	return nil
}

// statBlob answers HEAD, and a conditional GET whose condition says that no body is needed.
func (s *Server) statBlob(ctx context.Context, x *exchange) error {
	d := x.route.reference.Digest
	stat, err := s.mirror.StatBlob(ctx, x.route.repository, d)
	if err != nil {
		return err
	}
	x.rec.foundAt(stat.Outcome, stat.Source)
	if x.notModified(d) {
		x.lookedUp(d, stat.Outcome, stat.Source)
		x.sendNotModified()
		return nil
	}
	if err := x.checkFraming(stat.Size); err != nil {
		return err
	}
	x.blobHeaders(d, stat.Outcome, stat.Source)
	x.ctx.Response.Header.SetContentType(typeOctetStream)
	x.ctx.Response.Header.SetContentLength(int(stat.Size))
	x.ctx.Response.SkipBody = true
	return nil
}

func (x *exchange) blobHeaders(d oci.Digest, outcome mirror.Outcome, source mirror.Source) {
	x.lookedUp(d, outcome, source)
	x.set("Accept-Ranges", "bytes")
}

// spansOf decides which parts of a blob the client gets. One without a size is sent whole: the total of a
// Content-Range must be a number.
func (x *exchange) spansOf(d oci.Digest, size int64) ([]span, error) {
	if err := x.checkFraming(size); err != nil || size < 0 {
		return nil, err
	}
	header := &x.ctx.Request.Header
	ranges := header.PeekAll("Range")
	if len(ranges) != 1 || !rangeApplies(header.Peek("If-Range"), d) {
		return nil, nil
	}
	return parseRange(ranges[0], size)
}

// checkFraming refuses a body of unknown length to a client that could not tell its end from a broken connection.
func (x *exchange) checkFraming(size int64) error {
	if size >= 0 || x.ctx.Request.Header.IsHTTP11() {
		return nil
	}
	return &refusal{status: 502, code: oci.Unavailable,
		message: "the registry does not tell the length of this blob, and HTTP/1.0 needs it: use HTTP/1.1, or try again when the blob is complete"}
}

// sendParts answers with the whole blob, with one part of it, or with several as multipart/byteranges.
func (x *exchange) sendParts(blob *mirror.Blob, size int64, spans []span) {
	response := &x.ctx.Response
	response.Header.SetContentType(typeOctetStream)
	b := &body{content: blob, size: size, parts: []part{{span: span{0, size}}}, stored: blob.Source == mirror.Disk && blob.Bytes() == nil}
	switch len(spans) {
	case 0:
	case 1:
		response.SetStatusCode(fasthttp.StatusPartialContent)
		x.set("Content-Range", spans[0].contentRange(size))
		b.parts[0].span, b.size = spans[0], spans[0].n
	default:
		response.SetStatusCode(fasthttp.StatusPartialContent)
		m := newMultipart(spans, size)
		response.Header.SetContentType(m.contentType())
		b.parts, b.tail, b.size = m.parts, m.tail, m.length
	}
	x.sendBody(b)
}

// sendBody hands the body to fasthttp, which writes it after the handler has returned.
func (x *exchange) sendBody(b *body) {
	b.server, b.rec, b.conn = x.server, x.rec, x.ctx.Conn()
	x.ctx.Response.SetBodyStream(b, int(b.size))
}
