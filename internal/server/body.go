package server

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime/debug"

	"github.com/valyala/fasthttp"
)

// content is what a body takes its bytes from: a blob, whole or still arriving, or a manifest in memory.
type content interface {
	// WriteRange writes bytes [off, off+n) to w, waiting for those that are not there yet; n < 0 means up to the end.
	WriteRange(w io.Writer, off, n int64) (int64, error)
	// Close lets go of the content.
	Close() error
}

// part is a range of the content and what stands before it in the body.
type part struct {
	head string
	span span
}

// body writes an answer after its handler has returned. It owns the content and the record of the request, and holds
// nothing of the request itself, because fasthttp uses that again.
//
// A body is written by one goroutine. It is never longer than it was declared; when the content fails it is shorter,
// and the connection is closed in an orderly way. That is the one form of failure that clients resume from and
// none takes for success.
type body struct {
	server  *Server
	rec     *record
	content content
	parts   []part
	tail    string
	// size is the declared length in bytes, -1 when it is not known.
	size int64
	conn net.Conn
	// stored says that the content is a file, all of which is there: its first bytes come right after the headers.
	stored bool
	closed bool
	meter  meter
}

var _ fasthttp.BodyWriterTo = (*body)(nil)

var (
	errReadBody  = errors.New("BUG: body was read instead of written")
	errShort     = errors.New("content ended before its announced length")
	errTooLong   = errors.New("content is longer than its announced length")
	errNotSent   = errors.New("the client left before the body")
	errBodyPanic = errors.New("panic while a body was written")
)

// Read exists because fasthttp wants a reader. It is never called, because SupportsBodyWriteTo says yes.
func (b *body) Read([]byte) (int, error) { return 0, errReadBody }

// SupportsBodyWriteTo tells fasthttp to call WriteTo, which keeps sendfile possible.
func (b *body) SupportsBodyWriteTo() bool { return true }

// WriteTo writes the body to the connection's buffer. Any error it returns makes fasthttp close the connection.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	m := &b.meter
	*m = meter{server: b.server, rec: b.rec, out: w, left: b.size}
	if b.size < 0 {
		m.left = math.MaxInt64
	}
	if c, ok := b.conn.(interface{ cork(on bool) }); ok && b.stored {
		c.cork(true)
		defer c.cork(false)
	}
	err := b.write(m)
	if err == nil && b.size >= 0 && m.left > 0 {
		err = errShort
	}
	if err != nil {
		b.cutShort(m, err)
	}
	return b.rec.sent, err
}

// write sends the parts. A panic below ends this body, not the process.
func (b *body) write(m *meter) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			b.server.metrics.panics.Inc()
			err = fmt.Errorf("%w: %v\n%s", errBodyPanic, reason, debug.Stack())
		}
	}()
	out := m.writer(b.conn)
	for _, p := range b.parts {
		if err := writeText(out, p.head); err != nil {
			return err
		}
		if _, err := b.content.WriteRange(out, p.span.off, p.span.n); err != nil {
			return err
		}
	}
	return writeText(out, b.tail)
}

// writeText writes what stands between parts, which is mostly nothing.
func writeText(w io.Writer, text string) error {
	if text == "" {
		return nil
	}
	_, err := io.WriteString(w, text)
	return err
}

// cutShort keeps who ended the body early. When it was not the client, what is in the buffer is sent before the
// connection is closed, so that the client resumes from as far as we came.
func (b *body) cutShort(m *meter, err error) {
	b.rec.err = err
	if m.broken {
		b.rec.cut = cutByClient
		return
	}
	b.rec.cut = cutByContent
	lingerOf(b.conn)
	if buffer, ok := m.out.(stream); ok {
		// The connection is closed next, whatever comes of this.
		_ = buffer.Flush()
	}
}

// Close lets go of the content and closes the record. fasthttp calls it once the body is written, or when it never
// will be because the client is gone.
func (b *body) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	if err := b.content.Close(); err != nil && b.rec.err == nil {
		b.rec.err = fmt.Errorf("close content: %w", err)
	}
	if b.rec.err == nil && b.rec.sent < b.size {
		b.rec.err, b.rec.cut = errNotSent, cutByClient
	}
	b.server.finish(b.rec)
	return nil
}

// document is content that is in memory as a whole. It is shared and never written to.
type document []byte

func (d document) WriteRange(w io.Writer, off, n int64) (int64, error) {
	written, err := w.Write(d[off : off+n])
	return int64(written), err
}

func (d document) Close() error { return nil }
