package server

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/valyala/fasthttp"
)

// fronted returns both ends of a connection with a front that answers nothing.
func fronted(t *testing.T) (client net.Conn, fronted *plainConn) {
	t.Helper()
	server, client := tcpPair(t)
	own, _ := testCrowd(1, 1).admit(server)
	return client, newLent(own, &sync.Pool{New: func() any { return new(room) }}, nil).(*plainConn)
}

// TestFrontPassesEverythingOn reads the first byte alone and then the rest, as fasthttp does.
func TestFrontPassesEverythingOn(t *testing.T) {
	client, c := fronted(t)
	sent := bytes.Repeat([]byte("0123456789"), roomSize)
	go func() {
		_, _ = client.Write(sent)
		_ = client.(*net.TCPConn).CloseWrite()
	}()
	if err := c.front.fetch(); err != nil {
		t.Fatal(err)
	}
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
	client, c := fronted(t)
	front := &c.front
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := front.fetch(); err == nil || front.room != nil {
		t.Errorf("%v; room %v", err, front.room)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	_, _ = client.Write([]byte("ab"))
	if err := front.fetch(); err != nil || front.room == nil {
		t.Errorf("%v; room %v", err, front.room)
	}
	if n, err := c.Read(make([]byte, 10)); err != nil || n != 2 || front.room != nil {
		t.Errorf("read %d bytes, %v; room %v", n, err, front.room)
	}
}

// TestLentConnectionComesBack at the end of an answer, and only there: a read of one byte in the middle of a request is none.
func TestLentConnectionComesBack(t *testing.T) {
	client, c := fronted(t)
	f := &c.front
	_, _ = client.Write([]byte("ab"))
	if n, err := c.Read(make([]byte, 1)); err != nil || n != 1 || f.returned {
		t.Errorf("in a request: %d bytes, %v", n, err)
	}
	lentPhase(c, fasthttp.StateIdle)
	if n, err := c.Read(make([]byte, 1)); err != io.EOF || n != 0 || !f.returned {
		t.Errorf("between two: %d bytes, %v", n, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.fetch(); err != nil || f.have != 1 {
		t.Errorf("after it was returned: %d bytes, %v", f.have, err)
	}
	lentPhase(c, fasthttp.StateActive)
	f.returned = false
	if _, err := c.Read(make([]byte, 8)); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("closed by fasthttp: %v", err)
	}
}

// TestPanicEndsTheConnection and nothing else.
func TestPanicEndsTheConnection(t *testing.T) {
	s := newTestServer(t, io.Discard) // without a mirror, every hit panics
	f := &front{conn: &sink{}, rooms: &s.rooms, server: s}
	f.enter()
	f.have = copy(f.room.in[:], "GET /v2/a/b/manifests/1 HTTP/1.1\r\nHost: a\r\n\r\n")
	if err := f.answer(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want %v", err, net.ErrClosed)
	}
	if got := testutil.ToFloat64(s.metrics.panics); got != 1 {
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
	var outer deadlines
	f := &front{conn: &outer, own: new(conn)}
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
	if outer.set > 20 {
		t.Errorf("the deadline was set %d times in three minutes", outer.set)
	}
}
