package server

import (
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"mirror/internal/mirror"
	"mirror/internal/oci"
)

// quickBody is up to which length a body is copied behind its headers and sent with them in one system call. For longer ones the
// copy costs more than the calls that it saves.
const quickBody = 32 << 10

// quickHit is content in memory that needs nobody's consent: a hit from the first byte of its request to the last of its answer.
type quickHit struct {
	digest    oci.Digest
	mediaType string
	body      []byte
}

// answerQuickly answers the request at the front of b when it is for a hit in memory, and returns its length. All else, which is zero, is for
// fasthttp and the steps of serve, with the same answer if it comes to a hit: what differs is the cost. A request that
// goes through fasthttp costs half as much again as nginx needs for a file.
//
// There is one lookup, one system call, no goroutine, and nothing is allocated but the strings of the route.
func (s *Server) answerQuickly(f *front, b []byte) (length int, err error) {
	request, length, ok := glanceAt(b)
	if !ok || s.draining.Load() {
		return 0, nil
	}
	now := time.Now()
	r, err := parseRoute(s.mirror, request.path, request.query, request.host)
	if err != nil {
		return 0, nil // whoever reads it properly says so
	}
	hit, ok := s.quickHit(&r, &request)
	if !ok {
		return 0, nil
	}
	if err := f.renew(now); err != nil {
		return 0, err
	}
	rec := &f.room.rec
	*rec = record{client: f.conn.RemoteAddr(), method: methodGet, kind: r.kind, repository: r.repository, reference: r.reference,
		status: fasthttp.StatusOK, started: now}
	rec.foundAt(mirror.Hit, mirror.Memory)
	if request.head {
		rec.method = methodHead
	}
	s.sendQuickly(f, &r, &request, hit)
	return length, rec.err
}

// quickHit finds what is asked for. Whatever could be answered in another way than with all of it is not for here.
func (s *Server) quickHit(r *route, request *glance) (hit quickHit, ok bool) {
	switch r.kind {
	case kindManifest:
		m, ok := s.mirror.ReadyManifest(r.repository, r.reference)
		if !ok || len(m.Body) > quickBody || !r.reference.IsDigest() && !accepts(request.accept[:request.accepts], m.Descriptor.MediaType) {
			return quickHit{}, false
		}
		s.mirror.TookManifest(s.work, r.repository, &m, !request.head)
		return quickHit{m.Descriptor.Digest, m.Descriptor.MediaType, m.Body}, true
	case kindBlob:
		body := s.mirror.ReadyBlob(r.repository, r.reference.Digest)
		if body == nil || len(body) > quickBody {
			return quickHit{}, false
		}
		s.mirror.TookBlob(r.reference.Digest, !request.head)
		return quickHit{r.reference.Digest, typeOctetStream, body}, true
	}
	return quickHit{}, false
}

// sendQuickly sends the answer, and closes the record.
func (s *Server) sendQuickly(f *front, r *route, request *glance, hit quickHit) {
	rec := &f.room.rec
	b := append(append(f.room.out[:0], s.preamble...), hit.mediaType...)
	b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(len(hit.body)), 10)
	b = append(b, "\r\nDocker-Distribution-Api-Version: registry/2.0\r\nX-Request-Id: "...)
	id := len(b)
	b = s.appendRequestID(b, request.requestID)
	if s.access.wants(rec) {
		rec.request = string(b[id:])
	}
	if r.namespace != "" {
		b = append(append(b, "\r\nOCI-Namespace: "...), r.namespace...)
	}
	b = hit.digest.AppendTo(append(b, "\r\nDocker-Content-Digest: "...))
	b = appendEntityTag(append(b, "\r\nETag: "...), hit.digest)
	b = append(b, "\r\nX-Cache: HIT\r\nX-Cache-Source: memory"...)
	if r.kind == kindBlob {
		b = append(b, "\r\nAccept-Ranges: bytes"...)
	}
	b = append(b, "\r\n\r\n"...)
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
