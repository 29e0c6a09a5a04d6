package server

import (
	"bufio"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"mirror/internal/mirror"
	"mirror/internal/oci"
)

// quickBody is up to which length a body is copied behind its headers and sent with them in one system call. For longer ones the
// copy costs more than the calls that it saves.
const quickBody = 32 << 10

// quickHit is content that needs nobody's consent: a hit from the first byte of its request to the last of its answer.
type quickHit struct {
	digest    oci.Digest
	mediaType string
	source    mirror.Source
	size      int64
	// body is the whole content if it is in memory; file is it otherwise.
	body []byte
	file *mirror.Blob
	// part is what of it goes out; partial says that it is not all.
	part    span
	partial bool
}

// answerQuickly answers the request at the front of b when it is for a hit that can be served as it is, and returns its length. All
// else, which is zero, is for fasthttp and the steps of serve, with the same answer if it comes to a hit: what differs is
// the cost. A request that goes through fasthttp costs half as much again as nginx needs for a file.
//
// There is one lookup and no goroutine. What is in memory and short takes one system call, and allocates nothing.
func (s *Server) answerQuickly(f *front, b []byte) (length int, err error) {
	request, length, ok := glanceAt(b)
	if !ok || s.draining.Load() {
		return 0, nil
	}
	now := time.Now()
	r, known := s.quickRoute(&request)
	if r == nil {
		return 0, nil
	}
	hit, ok := s.quickHit(r, &request)
	if !ok {
		return 0, nil
	}
	if !known {
		s.routes.keep(&request, r)
	}
	rec := &f.room.rec
	*rec = record{client: f.conn.RemoteAddr(), method: methodGet, kind: r.kind, repository: r.repository, reference: r.reference,
		status: fasthttp.StatusOK, started: now}
	rec.foundAt(mirror.Hit, hit.source)
	if request.head {
		rec.method = methodHead
	}
	if hit.partial {
		rec.status = fasthttp.StatusPartialContent
	}
	if !request.head && (hit.file != nil || len(hit.body) > quickBody || hit.partial) {
		return length, s.sendLong(f, r, &request, &hit)
	}
	if err := f.renew(now); err != nil {
		return 0, err
	}
	s.sendQuickly(f, r, &request, &hit)
	return length, rec.err
}

// quickRoute reads the address of a request. It returns nil for one that cannot be read: whoever reads it properly says why.
func (s *Server) quickRoute(request *glance) (r *route, known bool) {
	if r := s.routes.find(request); r != nil {
		return r, true
	}
	parsed, err := parseRoute(s.mirror, request.path, request.query, request.host)
	if err != nil {
		return nil, false
	}
	return &parsed, false
}

// quickHit finds what is asked for. Whatever could be answered in another way than with it is not for here.
func (s *Server) quickHit(r *route, request *glance) (hit quickHit, ok bool) {
	switch r.kind {
	case kindManifest:
		return s.quickManifest(r, request)
	case kindBlob:
		return s.quickBlob(r, request)
	}
	return quickHit{}, false
}

func (s *Server) quickManifest(r *route, request *glance) (hit quickHit, ok bool) {
	m, ok := s.mirror.ReadyManifest(r.repository, r.reference)
	if !ok || len(m.Body) > quickBody || request.ranges != nil ||
		!r.reference.IsDigest() && !accepts(request.accept[:request.accepts], m.Descriptor.MediaType) {
		return quickHit{}, false
	}
	s.mirror.TookManifest(s.work, r.repository, &m, !request.head)
	d := &m.Descriptor
	return quickHit{digest: d.Digest, mediaType: d.MediaType, source: m.Source, size: d.Size, body: m.Body, part: span{0, d.Size}}, true
}

func (s *Server) quickBlob(r *route, request *glance) (hit quickHit, ok bool) {
	d := r.reference.Digest
	hit = quickHit{digest: d, mediaType: typeOctetStream, source: mirror.Memory, body: s.mirror.ReadyBlob(r.repository, d)}
	hit.size = int64(len(hit.body))
	if request.head && (hit.body == nil || request.ranges != nil) {
		return quickHit{}, false
	}
	if hit.body == nil {
		if hit.file, ok = s.mirror.ReadyFile(r.repository, d); !ok {
			return quickHit{}, false
		}
		hit.size, hit.source = hit.file.Size(), hit.file.Source
	}
	if !hit.cut(request.ranges) {
		if hit.file != nil {
			_ = hit.file.Close() // nothing was read
		}
		return quickHit{}, false
	}
	s.mirror.TookBlob(d, hit.source, !request.head)
	return hit, true
}

// cut applies a Range header, nil when there is none. It reports false when the answer is another than the whole or one part.
func (h *quickHit) cut(ranges []byte) bool {
	h.part = span{0, h.size}
	if ranges == nil {
		return true
	}
	spans, err := parseRange(ranges, h.size)
	if err != nil || len(spans) > 1 {
		return false
	}
	if len(spans) == 1 {
		h.part, h.partial = spans[0], true
	}
	return true
}

// sendQuickly sends an answer that fits into one buffer, and closes the record.
func (s *Server) sendQuickly(f *front, r *route, request *glance, hit *quickHit) {
	rec := &f.room.rec
	b := s.appendHeaders(f, r, request, hit)
	headers := len(b)
	if !request.head {
		b = append(b, hit.body...)
	}
	f.room.out = b
	s.metrics.answered(rec)
	n, err := f.conn.Write(b)
	if rec.sent = max(0, int64(n-headers)); rec.sent > 0 {
		s.metrics.served(rec, rec.sent)
	}
	if err != nil {
		rec.err, rec.cut = err, cutByClient
	}
	rec.duration = time.Since(rec.started)
	s.metrics.waited(rec, rec.duration) // all came with the first byte
	s.metrics.ended(rec)
	if s.access.wants(rec) {
		kept := *rec // the room's is used again
		s.access.add(&kept)
	}
}

// sendLong sends the headers, and the content as fasthttp's answers do.
func (s *Server) sendLong(f *front, r *route, request *glance, hit *quickHit) error {
	headers := s.appendHeaders(f, r, request, hit)
	f.room.out = headers
	rec := f.room.rec // of its own: it lives as long as the body
	b := &body{server: s, rec: &rec, parts: []part{{span: hit.part}}, size: hit.part.n, conn: f.conn, secure: f.raw == nil}
	if b.content = document(hit.body); hit.file != nil {
		b.content, b.stored = hit.file, hit.file.Bytes() == nil
	}
	defer b.Close() // what it returns is in the record
	s.metrics.answered(&rec)
	w := s.writers.Get().(*bufio.Writer)
	defer s.writers.Put(w)
	w.Reset(f.conn)
	defer w.Reset(nil)
	_, _ = w.Write(headers) // an error stays
	if _, err := b.WriteTo(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		rec.err, rec.cut = err, cutByClient
		return err
	}
	return f.renew(time.Now())
}

// appendHeaders puts the headers of an answer together, in the room of the connection.
func (s *Server) appendHeaders(f *front, r *route, request *glance, hit *quickHit) []byte {
	b := append(f.room.out[:0], "HTTP/1.1 "...)
	if hit.partial {
		b = append(b, "206 Partial Content"...)
	} else {
		b = append(b, "200 OK"...)
	}
	b = append(append(b, s.preamble...), hit.mediaType...)
	b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), hit.part.n, 10)
	b = append(b, "\r\nDocker-Distribution-Api-Version: registry/2.0\r\nX-Request-Id: "...)
	id := len(b)
	b = s.appendRequestID(b, request.requestID)
	if rec := &f.room.rec; s.access.wants(rec) {
		rec.request = string(b[id:])
	}
	if r.namespace != "" {
		b = append(append(b, "\r\nOCI-Namespace: "...), r.namespace...)
	}
	b = hit.digest.AppendTo(append(b, "\r\nDocker-Content-Digest: "...))
	b = appendEntityTag(append(b, "\r\nETag: "...), hit.digest)
	b = append(append(b, "\r\nX-Cache: HIT\r\nX-Cache-Source: "...), hit.source.String()...)
	if r.kind == kindBlob {
		b = append(b, "\r\nAccept-Ranges: bytes"...)
	}
	if hit.partial {
		b = append(append(b, "\r\nContent-Range: "...), hit.part.contentRange(hit.size)...)
	}
	return append(b, "\r\n\r\n"...)
}
