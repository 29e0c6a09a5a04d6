package server

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// fronted returns both ends of a connection with a front that answers nothing, and what lends it rooms.
func fronted(t *testing.T) (client net.Conn, fronted net.Conn, lent *int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	lent = new(int)
	rooms := &sync.Pool{New: func() any { *lent++; return new(room) }}
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	own := &admitting{ln, testCrowd(1, 1)}
	if fronted, err = (&frontListener{own, rooms, nil}).Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		_ = fronted.Close()
	})
	return client, fronted, lent
}

// admitting is a listener whose connections are those of a crowd.
type admitting struct {
	net.Listener
	crowd *crowd
}

func (l *admitting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	own, _ := l.crowd.admit(c.(*net.TCPConn))
	return own, nil
}

// TestFrontPassesEverythingOn reads the first byte alone and then the rest, as fasthttp does.
func TestFrontPassesEverythingOn(t *testing.T) {
	client, c, _ := fronted(t)
	sent := bytes.Repeat([]byte("0123456789"), roomSize)
	go func() {
		_, _ = client.Write(sent)
		_ = client.(*net.TCPConn).CloseWrite()
	}()
	var got []byte
	for size := 1; ; size = 1 + size*7%9001 {
		p := make([]byte, size)
		n, err := c.Read(p)
		got = append(got, p[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("got %d bytes, want %d, or they differ", len(got), len(sent))
	}
}

// TestIdleFrontHasNoRoom waits for a request.
func TestIdleFrontHasNoRoom(t *testing.T) {
	client, c, _ := fronted(t)
	front := &c.(*plainConn).front
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err == nil || n != 0 || front.room != nil {
		t.Errorf("read %d bytes, %v; room %v", n, err, front.room)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	_, _ = client.Write([]byte("ab"))
	if n, err := c.Read(make([]byte, 1)); err != nil || n != 1 || front.room == nil {
		t.Errorf("read %d bytes, %v; room %v", n, err, front.room)
	}
	if n, err := c.Read(make([]byte, 10)); err != nil || n != 1 || front.room != nil {
		t.Errorf("read %d bytes, %v; room %v", n, err, front.room)
	}
}

// TestPanicEndsTheConnection and nothing else.
func TestPanicEndsTheConnection(t *testing.T) {
	metrics, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{metrics: metrics, log: slog.New(slog.DiscardHandler)} // without a mirror, every hit panics
	s.rooms.New = func() any { return new(room) }
	f := &front{conn: &sink{}, rooms: &s.rooms, server: s}
	f.enter()
	f.have = copy(f.room.in[:], "GET /v2/a/b/manifests/1 HTTP/1.1\r\nHost: a\r\n\r\n")
	if err := f.answer(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want %v", err, net.ErrClosed)
	}
	if got := testutil.ToFloat64(metrics.panics); got != 1 {
		t.Errorf("%v panics were counted, want 1", got)
	}
}

// deadlines counts how often a deadline was set.
type deadlines struct {
	sink
	set int
}

func (d *deadlines) SetReadDeadline(time.Time) error {
	d.set++
	return nil
}

// TestBusyConnectionIsNotIdle: requests that fasthttp does not see put off the end that it has set.
func TestBusyConnectionIsNotIdle(t *testing.T) {
	var conn deadlines
	f := &front{conn: &conn}
	now := time.Now()
	for range 2 * int(idleFor/time.Second) {
		now = now.Add(time.Second)
		if err := f.renew(now); err != nil {
			t.Fatal(err)
		}
		if now.Sub(f.renewed) > renewAfter {
			t.Fatalf("the deadline is %v old", now.Sub(f.renewed))
		}
	}
	if conn.set > 20 {
		t.Errorf("the deadline was set %d times in three minutes", conn.set)
	}
}
