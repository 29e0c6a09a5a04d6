package server

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/valyala/fasthttp"
)

// newTestServer is a server without a mirror, for what does not reach one.
func newTestServer(t *testing.T, log io.Writer) *Server {
	t.Helper()
	s, err := New(Config{Listen: ":0"}, nil, "test", slog.New(slog.NewTextHandler(log, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// soon waits for something that another goroutine does.
func soon(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not after 10s: %s", what)
		}
	}
}

// tcpPair is a connection and its other end.
func tcpPair(t *testing.T) (server, client *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialled, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialled.Close(); _ = accepted.Close() })
	return accepted.(*net.TCPConn), dialled.(*net.TCPConn)
}

// fileContent is content in a file, written the way the cache writes it.
type fileContent struct {
	file *os.File
	fail error // after the bytes
}

func (c *fileContent) WriteRange(w io.Writer, off, n int64) (int64, error) {
	if f, ok := w.(interface{ Flush() error }); ok {
		if err := f.Flush(); err != nil {
			return 0, err
		}
	}
	if _, err := c.file.Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	sent, err := io.Copy(w, &io.LimitedReader{R: c.file, N: n})
	return sent, errors.Join(err, c.fail)
}

func (c *fileContent) Close() error { return nil }

// spyListener hands out connections that tell how they were written to.
type spyListener struct {
	*listener
	files  atomic.Int64 // ReadFrom calls with a file behind one limit
	others atomic.Int64
}

type spyConn struct {
	*conn
	spy *spyListener
}

func (l *spyListener) Accept() (net.Conn, error) {
	c, err := l.listener.Accept()
	if err != nil {
		return nil, err
	}
	return &spyConn{c.(*conn), l}, nil
}

func (c *spyConn) ReadFrom(r io.Reader) (int64, error) {
	limited, ok := r.(*io.LimitedReader)
	if ok {
		_, ok = limited.R.(*os.File)
	}
	if ok {
		c.spy.files.Add(1)
	} else {
		c.spy.others.Add(1)
	}
	return c.conn.ReadFrom(r)
}

// serveContent serves one content at every address through fasthttp, and returns the address and the spy.
func serveContent(t *testing.T, s *Server, size int64, newContent func() content) (string, *spyListener) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	spy := &spyListener{listener: newListener(ln, s.crowd, s.log)}
	s.http.Handler = func(ctx *fasthttp.RequestCtx) {
		x := s.begin(ctx)
		defer x.recoverPanic()
		x.rec.foundAt(0, 1)
		x.sendBody(&body{content: newContent(), size: size, parts: []part{{span: span{0, size}}}})
		x.end()
	}
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(spy) }()
	t.Cleanup(func() {
		_ = s.http.Shutdown()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return ln.Addr().String(), spy
}

// fetch asks for /v2/ on a connection of its own.
func fetch(addr string) (status int, body []byte, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	response, err := client.Get("http://" + addr + "/v2/")
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

// TestFilesGoBySendfile checks the whole way: body, meter, fasthttp's buffer, connection. On it the file must stay
// visible, or each byte is copied through a small buffer.
func TestFilesGoBySendfile(t *testing.T) {
	text := bytes.Repeat([]byte("x"), 3<<20)
	s := newTestServer(t, io.Discard)
	file := tempFile(t, text)
	addr, spy := serveContent(t, s, int64(len(text)), func() content { return &fileContent{file: file} })
	status, got, err := fetch(addr)
	if err != nil || status != 200 || !bytes.Equal(got, text) {
		t.Fatalf("got %d, %d bytes, %v", status, len(got), err)
	}
	if spy.files.Load() != 1 || spy.others.Load() != 0 {
		t.Errorf("got %d writes from the file and %d others, want 1 and 0", spy.files.Load(), spy.others.Load())
	}
	if got := testutil.ToFloat64(s.metrics.servedBytes[1]); got != float64(len(text)) {
		t.Errorf("counted %v bytes, want %d", got, len(text))
	}
}

// TestBodyIsNeverLongerThanDeclared serves content that gives more than was asked for.
func TestBodyIsNeverLongerThanDeclared(t *testing.T) {
	s := newTestServer(t, io.Discard)
	addr, _ := serveContent(t, s, 100, func() content { return overlong{} })
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	answer, err := io.ReadAll(c)
	_, sent, _ := bytes.Cut(answer, []byte("\r\n\r\n"))
	if err != nil || len(sent) != 60 {
		t.Errorf("got %d bytes of body (%v), want the 60 that came before the excess", len(sent), err)
	}
}

// overlong writes 60 bytes twice, whatever it is asked for.
type overlong struct{}

func (overlong) WriteRange(w io.Writer, _, _ int64) (int64, error) {
	for range 2 {
		if _, err := w.Write(make([]byte, 60)); err != nil {
			return 0, err
		}
	}
	return 120, nil
}

func (overlong) Close() error { return nil }

// TestPanicInBody checks that a body that panics ends its connection short and leaves a line and a count.
func TestPanicInBody(t *testing.T) {
	var log lockedBuffer
	s := newTestServer(t, &log)
	addr, _ := serveContent(t, s, 100, func() content { return panicking{} })
	if _, _, err := fetch(addr); err == nil {
		t.Error("the body is complete")
	}
	soon(t, "the panic is logged", func() bool { return log.contains("BUG: nothing here") })
	if got := testutil.ToFloat64(s.metrics.panics); got != 1 {
		t.Errorf("counted %v panics", got)
	}
}

type panicking struct{}

func (panicking) WriteRange(io.Writer, int64, int64) (int64, error) { panic("BUG: nothing here") }

func (panicking) Close() error { return nil }

// TestPanicInHandler checks that a handler that panics costs one request: here there is no mirror to ask.
func TestPanicInHandler(t *testing.T) {
	var log lockedBuffer
	s := newTestServer(t, &log)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	for range 2 {
		status, text, err := fetch(ln.Addr().String())
		if err != nil || status != 500 || !bytes.Contains(text, []byte(`"UNKNOWN"`)) || bytes.Contains(text, []byte("nil pointer")) {
			t.Fatalf("got %d %s, %v", status, text, err)
		}
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if testutil.ToFloat64(s.metrics.panics) != 2 || !log.contains("nil pointer") {
		t.Error("the panics are not counted, or not logged")
	}
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) contains(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Contains(b.text.Bytes(), []byte(text))
}

// TestClientThatReadsNothingIsCut checks the deadline of slices, with little patience.
func TestClientThatReadsNothingIsCut(t *testing.T) {
	text := bytes.Repeat([]byte("x"), 64<<20)
	for name, source := range map[string]content{"memory": document(text), "file": &fileContent{file: tempFile(t, text)}} {
		s := newTestServer(t, io.Discard)
		s.crowd.patience = 50 * time.Millisecond
		addr, _ := serveContent(t, s, int64(len(text)), func() content { return source })
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		soon(t, name+": the client is cut", func() bool { return testutil.ToFloat64(s.metrics.cutByClient) == 1 && s.crowd.size() == 0 })
		_ = c.Close()
	}
}

// TestClientThatDribblesIsCut sends a request that never ends.
func TestClientThatDribblesIsCut(t *testing.T) {
	s := newTestServer(t, io.Discard)
	s.http.ReadTimeout = 100 * time.Millisecond
	addr, _ := serveContent(t, s, 5, func() content { return document("hello") })
	f := func(sent, want string) {
		t.Helper()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, sent)
		got, err := io.ReadAll(c)
		if err != nil || !bytes.HasPrefix(got, []byte(want)) {
			t.Errorf("%q: got %q, %v", sent, got, err)
		}
	}
	f("", "")
	f("GET / HTTP/1.1\r\nHost: x\r\n", "HTTP/1.1 408 ")
	f("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe", "HTTP/1.1 408 ")
}
