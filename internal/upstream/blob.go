package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mirror/internal/oci"
)

// Body is the content of a blob on its way. Its Read returns io.EOF only after everything that was announced; a body
// that ends sooner is an io.ErrUnexpectedEOF, one that delivers nothing for 30 s an ErrTimeout. The bytes are as the
// upstream sent them and not verified. Close must be called; it ends the transfer.
type Body struct {
	io.ReadCloser
	// Start is the offset of the first byte delivered: zero when the upstream ignored the range that was asked for.
	Start int64
	// Size is the length of the whole blob in bytes, or -1 when the upstream did not tell.
	Size int64
	// Whole: the body goes to the end of the blob, whatever was asked for.
	Whole bool

	reject func()
}

// Reject says that what came is no good: too little in too much time, or other bytes than the digest names. Further
// requests of the same Download go to another endpoint first, where there is one, and are not sent where this one was
// redirected to. A body that breaks off by itself has the same effect.
func (b *Body) Reject() { b.reject() }

func blobCall(method, name string, d oci.Digest) call {
	return call{kind: kindBlob, method: method, repository: name, path: "/v2/" + name + "/blobs/" + d.String()}
}

// HeadBlob asks whether the repository holds a blob, and its length in bytes, or -1 when the upstream does not tell.
// Where HEAD is not answered, one byte is fetched instead: addresses that a registry signs are often good for GET only.
func (r *Registry) HeadBlob(ctx context.Context, name string, d oci.Digest) (size int64, err error) {
	if err := r.permit(name); err != nil {
		return 0, r.named(err)
	}
	c := blobCall(http.MethodHead, name, d)
	a, err := r.do(ctx, c)
	if statusOf(err) == http.StatusMethodNotAllowed || errors.Is(err, errTargetRefused) {
		return r.sizeByRange(ctx, name, d)
	}
	if err != nil {
		return 0, r.named(err)
	}
	defer a.Close()
	if err := checkWhole(a.Response); err != nil {
		return 0, r.named(fmt.Errorf("%s %s: %w", c.method, c.path, err))
	}
	return a.ContentLength, nil
}

func (r *Registry) sizeByRange(ctx context.Context, name string, d oci.Digest) (int64, error) {
	body, err := r.Blob(ctx, name, d, 0, 1)
	if err != nil {
		return 0, err
	}
	return body.Size, body.Close()
}

// Blob opens bytes [start, end) of a blob, with end greater than start; end -1 means to its end. An upstream may ignore
// the range: Start of the Body tells. ctx covers the whole transfer, not only its beginning.
func (r *Registry) Blob(ctx context.Context, name string, d oci.Digest, start, end int64) (*Body, error) {
	return r.Download(name, d).Open(ctx, start, end)
}

// rangeHeader asks for one range and never several, which storage services answer with 400 or everything.
func rangeHeader(start, end int64) string {
	switch {
	case end >= 0:
		return fmt.Sprintf("bytes=%d-%d", start, end-1)
	case start > 0:
		return fmt.Sprintf("bytes=%d-", start)
	}
	return ""
}

// openBody checks an answer's headers against what was asked for, before anybody sees a byte.
func (d *Download) openBody(ctx context.Context, a *answer, start, end int64) (*Body, error) {
	reject := func() { d.trail.leave(a.endpoint) }
	s := &stream{registry: d.registry, parent: ctx, answer: a, left: a.ContentLength, reject: reject}
	switch {
	case a.StatusCode == http.StatusOK:
		return &Body{ReadCloser: s.started(), Size: a.ContentLength, Whole: true, reject: reject}, nil
	case a.StatusCode != http.StatusPartialContent || start == 0 && end < 0:
		return nil, fmt.Errorf("%w: status %d where 200 is due", ErrWrongContent, a.StatusCode)
	}
	got, err := parseContentRange(a.Header.Get("Content-Range"))
	if err != nil {
		return nil, err
	}
	if err := got.check(start, end, a.ContentLength); err != nil {
		return nil, err
	}
	s.left = got.end - got.start
	return &Body{ReadCloser: s.started(), Start: start, Size: got.size, reject: reject}, nil
}

// contentRange is what a Content-Range header says: bytes [start, end) of size, which is -1 when unknown.
type contentRange struct {
	start, end, size int64
}

// parseContentRange reads "bytes 0-9/100" or "bytes 0-9/*". Anything else is an ErrWrongContent.
func parseContentRange(text string) (contentRange, error) {
	unit, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	span, total, hasTotal := strings.Cut(strings.TrimSpace(rest), "/")
	first, last, hasLast := strings.Cut(span, "-")
	a, errA := parseOffset(first)
	b, errB := parseOffset(last)
	size, errSize := int64(-1), error(nil)
	if total != "*" {
		size, errSize = parseOffset(total)
	}
	if !strings.EqualFold(unit, "bytes") || !hasTotal || !hasLast || errors.Join(errA, errB, errSize) != nil ||
		b < a || size >= 0 && b >= size {
		return contentRange{}, fmt.Errorf("%w: Content-Range %q", ErrWrongContent, clean(text, 100))
	}
	return contentRange{start: a, end: b + 1, size: size}, nil
}

// parseOffset reads digits only; strconv would take signs. One less bit keeps sums from overflowing.
func parseOffset(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 62)
	return int64(n), err
}

// check compares what is sent with what was asked for: the same start, and the same end or the end of the blob.
func (c contentRange) check(start, end, length int64) error {
	switch {
	case c.start != start,
		end >= 0 && c.end > end,
		end >= 0 && c.end < end && c.end != c.size,
		end < 0 && c.size >= 0 && c.end != c.size:
		return fmt.Errorf("%w: asked for bytes %d to %d, the answer holds %d to %d of %d", ErrWrongContent, start, end, c.start, c.end, c.size)
	case length >= 0 && length != c.end-c.start:
		return fmt.Errorf("%w: Content-Length %d does not fit %d to %d", ErrWrongContent, length, c.start, c.end)
	}
	return nil
}

// stream is a blob's body: counted, within the bandwidth, watched for stalls, and checked for its length.
type stream struct {
	registry *Registry
	parent   context.Context // the caller's
	answer   *answer
	left     int64       // bytes still due; negative when the length is unknown
	begun    int         // bytes that came without waiting for the bandwidth
	watch    *time.Timer // ends the transfer when a read takes too long
	over     error       // what every further Read returns
	reject   func()      // called when the transfer breaks off
}

func (s *stream) started() *stream {
	s.watch = time.AfterFunc(s.registry.times.stall, func() { s.answer.cancel(errSlow) })
	s.watch.Stop()
	return s
}

// Read reads what has arrived. It may not be called from several goroutines.
func (s *stream) Read(p []byte) (int, error) {
	if s.over != nil {
		return 0, s.over
	}
	n, err := s.receive(p)
	if s.left >= 0 {
		if int64(n) > s.left {
			n, err = int(s.left), fmt.Errorf("%w: more bytes than announced", ErrWrongContent)
		}
		s.left -= int64(n)
	}
	if s.over = s.end(err); s.over != nil && !errors.Is(s.over, io.EOF) && !errors.Is(s.over, context.Canceled) {
		s.reject()
	}
	return n, s.over
}

// receive reads what has arrived, then waits as long as the bandwidth wants. Only the former can be a stall.
func (s *stream) receive(p []byte) (int, error) {
	s.watch.Reset(s.registry.times.stall)
	l := s.registry.limits.Load()
	n, err := s.answer.Body.Read(p[:l.room(len(p))])
	s.watch.Stop()
	s.registry.metrics.bytes.Add(float64(n))
	if s.begun < head {
		s.begun += n
		l.charge(n)
		return n, err
	}
	if waitErr := l.received(s.answer.ctx, n); waitErr != nil && err == nil {
		err = waitErr
	}
	return n, err
}

// end turns the error of a read into what the caller sees.
func (s *stream) end(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF) && s.left <= 0:
		return io.EOF
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return s.registry.named(fmt.Errorf("read blob: %d bytes are missing: %w", max(s.left, 0), io.ErrUnexpectedEOF))
	}
	return s.registry.named(fmt.Errorf("read blob: %w", s.registry.explain(s.parent, s.answer.ctx, err)))
}

// Close ends the transfer. It may be called while a Read waits, which then returns.
func (s *stream) Close() error {
	s.watch.Stop()
	return s.answer.Close()
}
