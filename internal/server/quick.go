package server

import (
	"bufio"
	"net"
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
// There is one lookup, and a second one when a connection that a poller waits for asks for a file. What is in memory and short takes one system call, and allocates nothing.
func (s *Server) answerQuickly(f *front, b []byte) (length int, err error) {
	request, hit := &f.room.request, &f.room.hit
	length, ok := request.at(b)
	if !ok || s.draining.Load() {
		return 0, nil
	}
	now := time.Now()
	r, known := s.quickRoute(request)
	if r == nil || !s.findQuickly(hit, r, request, f.inTurn) {
		return 0, nil
	}
	if !known {
		s.routes.keep(request, r)
	}
	f.room.record(f.conn.RemoteAddr(), r, now)
	if !request.head && hit.long() {
		return length, s.sendLong(f, r)
	}
	if err := f.renew(now); err != nil {
		return 0, err
	}
	return length, s.sendQuickly(f, r)
}

// record begins the record of the request.
func (m *room) record(client net.Addr, r *route, now time.Time) {
	rec := &m.rec
	*rec = record{client: client, method: methodGet, kind: r.kind, repository: r.repository, reference: r.reference,
		status: fasthttp.StatusOK, started: now}
	rec.foundAt(mirror.Hit, m.hit.source)
	if m.request.head {
		rec.method = methodHead
	}
	if m.hit.partial {
		rec.status = fasthttp.StatusPartialContent
	}
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

// findQuickly finds what is asked for. Whatever could be answered in another way than with it is not for here.
// In a turn that is all that may take long.
func (s *Server) findQuickly(hit *quickHit, r *route, request *glance, inTurn bool) bool {
	switch r.kind {
	case kindManifest:
		return s.findManifest(hit, r, request)
	case kindBlob:
		return s.findBlob(hit, r, request, inTurn)
	}
	return false
}

func (s *Server) findManifest(hit *quickHit, r *route, request *glance) bool {
	m, ok := s.mirror.ReadyManifest(r.repository, r.reference)
	if !ok || len(m.Body) > quickBody || request.ranges != nil ||
		!r.reference.IsDigest() && !accepts(request.accept[:request.accepts], m.Descriptor.MediaType) {
		return false
	}
	s.mirror.TookManifest(s.work, r.repository, &m, !request.head)
	d := &m.Descriptor
	*hit = quickHit{digest: d.Digest, mediaType: d.MediaType, source: m.Source, size: d.Size, body: m.Body, part: span{0, d.Size}}
	return true
}

func (s *Server) findBlob(hit *quickHit, r *route, request *glance, inTurn bool) bool {
	d := r.reference.Digest
	if request.head && request.ranges != nil {
		return false
	}
	*hit = quickHit{digest: d, mediaType: typeOctetStream, source: mirror.Memory}
	hit.body, hit.file = s.mirror.ReadyBlob(r.repository, d, !request.head && !inTurn)
	switch {
	case hit.file != nil:
		hit.size, hit.source = hit.file.Size(), hit.file.Source
	case hit.body != nil:
		hit.size = int64(len(hit.body))
	default:
		return false
	}
	if !hit.cut(request.ranges) || inTurn && !request.head && hit.long() {
		hit.close()
		return false
	}
	s.mirror.TookBlob(d, hit.source, !request.head)
	return true
}

// long reports whether sending the content takes more than one buffer.
func (h *quickHit) long() bool { return h.file != nil || len(h.body) > quickBody || h.partial }

// close lets go of a file from which nothing was read.
func (h *quickHit) close() {
	if h.file != nil {
		_ = h.file.Close()
	}
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

// sendQuickly sends an answer that fits into one buffer. In a turn it returns errNotNow when the connection takes only a part.
func (s *Server) sendQuickly(f *front, r *route) error {
	b := s.appendHeaders(f.room, r)
	f.room.headers = len(b)
	if !f.room.request.head {
		b = append(b, f.room.hit.body...)
	}
	f.room.out = b
	s.metrics.answered(&f.room.rec)
	if !f.inTurn {
		n, err := f.conn.Write(b)
		return s.sentQuickly(f, n, err)
	}
	n, err := writeNow(f.fd, b)
	if err == nil && n < len(b) {
		f.unsent = b[n:]
		return errNotNow
	}
	return s.sentQuickly(f, n, err)
}

// sendRest sends what a turn could not.
func (f *front) sendRest() error {
	rest := f.unsent
	if rest == nil {
		return nil
	}
	f.unsent = nil
	n, err := f.conn.Write(rest)
	return f.server.sentQuickly(f, len(f.room.out)-len(rest)+n, err)
}

// sentQuickly closes the record of an answer of which n bytes were sent.
func (s *Server) sentQuickly(f *front, n int, err error) error {
	head, rec := f.room.request.head, &f.room.rec
	if rec.sent = max(0, int64(n-f.room.headers)); rec.sent > 0 {
		s.metrics.served(rec, rec.sent)
	}
	if err != nil && !head {
		rec.cut = cutByClient
	}
	rec.err = err
	rec.duration = time.Since(rec.started)
	if head || len(f.room.hit.body) > 0 {
		s.metrics.waited(rec, rec.duration) // all came with the first byte
	}
	s.metrics.ended(rec)
	if s.access.wants(rec) {
		kept := *rec // the room's is used again
		s.access.add(&kept)
	}
	return err
}

// longAnswer is what a body needs beside its content, in one piece. The record lives as long as the body, or the access log needs it.
type longAnswer struct {
	body body
	rec  record
	part [1]part
}

// sendLong sends the headers, and the content as fasthttp's answers do.
func (s *Server) sendLong(f *front, r *route) error {
	hit, headers := &f.room.hit, s.appendHeaders(f.room, r)
	f.room.out = headers
	a := &longAnswer{rec: f.room.rec, part: [1]part{{span: hit.part}}}
	b := &a.body
	*b = body{server: s, rec: &a.rec, parts: a.part[:], size: hit.part.n, conn: f.conn}
	if b.content = document(hit.body); hit.file != nil {
		b.content, b.stored = hit.file, hit.file.Bytes() == nil
	}
	defer b.Close() // what it returns is in the record
	s.metrics.answered(b.rec)
	w := s.writers.Get().(*bufio.Writer)
	defer s.writers.Put(w)
	w.Reset(f.conn)
	defer w.Reset(nil)
	_, _ = w.Write(headers) // an error stays
	if _, err := b.WriteTo(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		b.rec.err, b.rec.cut = err, cutByClient
		return err
	}
	return f.renew(time.Now())
}

// appendHeaders puts the headers of an answer together, in its room.
func (s *Server) appendHeaders(m *room, r *route) []byte {
	hit, b := &m.hit, m.out[:0]
	if hit.partial {
		b = append(b, "HTTP/1.1 206 Partial Content"...)
	} else {
		b = append(b, "HTTP/1.1 200 OK"...)
	}
	b = append(append(b, s.preamble...), hit.mediaType...)
	b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), hit.part.n, 10)
	b = append(b, "\r\nDocker-Distribution-Api-Version: registry/2.0\r\nX-Request-Id: "...)
	id := len(b)
	b = s.appendRequestID(b, m.request.requestID)
	if hit.file != nil || s.access.wants(&m.rec) { // a file may fail, which is a line in any case
		m.rec.request = string(b[id:])
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
