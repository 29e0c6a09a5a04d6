package server

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"
)

// TestConnectionWithoutAPoller has a goroutine of its own.
func TestConnectionWithoutAPoller(t *testing.T) {
	a := &attendant{
		http:     &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("answer") }, ReduceMemoryUsage: true, ConnState: lentPhase},
		rooms:    &sync.Pool{New: func() any { return new(room) }},
		stopping: new(atomic.Bool),
	}
	epoll, err := newEpoll()
	if err != nil {
		t.Fatal(err)
	}
	broken := &poller{attendant: a, epoll: epoll, conns: make(map[int32]*plainConn)}
	if err := epoll.Close(); err != nil {
		t.Fatal(err)
	}
	for what, pollers := range map[string][]*poller{"none": nil, "one that takes nothing": {broken}} {
		server, client := tcpPair(t)
		crowd := testCrowd(1, 1)
		own, _ := crowd.admit(server)
		a.receive(own, pollers, 7)
		for range 2 {
			_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			answer := make([]byte, 4096)
			if n, err := client.Read(answer); err != nil || string(answer[n-6:n]) != "answer" {
				t.Fatalf("%s: got %q, %v", what, answer[:n], err)
			}
		}
		_ = client.Close()
		eventuallyEmpty(t, crowd)
	}
	if len(broken.conns) != 0 {
		t.Error("the poller has kept a connection")
	}
}

// eventuallyEmpty waits until everybody has left.
func eventuallyEmpty(t *testing.T, c *crowd) {
	t.Helper()
	if err := c.disperse(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestResetOfABusyConnection is reported once at most: the poller has nothing to do with it until it comes back.
func TestResetOfABusyConnection(t *testing.T) {
	epoll, err := newEpoll()
	if err != nil {
		t.Fatal(err)
	}
	defer epoll.Close()
	p := &poller{epoll: epoll, conns: make(map[int32]*plainConn)}
	client, c := fronted(t)
	defer c.Close()
	if err := p.add(c); err != nil {
		t.Fatal(err)
	}
	if err := p.arm(c, unix.EPOLL_CTL_MOD, nothing); err != nil {
		t.Fatal(err)
	}
	_ = client.(*net.TCPConn).SetLinger(0)
	_ = client.Close()
	if _, err := c.conn.Read(make([]byte, 1)); err == nil {
		t.Fatal("no reset")
	}
	if err := control(epoll, func(fd int) error {
		ready := make([]unix.EpollEvent, 1)
		first, err := unix.EpollWait(fd, ready, 0)
		again, err2 := unix.EpollWait(fd, ready, 0)
		if first+again > 1 {
			t.Errorf("it is reported again and again")
		}
		return errors.Join(err, err2)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestCallsThatDoNotWait on a connection that has nothing, has something, is full and is closed by its other end.
func TestCallsThatDoNotWait(t *testing.T) {
	server, client := tcpPair(t)
	buffer := make([]byte, 64<<10)
	f := func(what string, call func(fd int, b []byte) (int, error), want int, wantErr error) {
		t.Helper()
		err := control(server, func(fd int) error {
			if n, err := call(fd, buffer); !errors.Is(err, wantErr) || want >= 0 && n != want {
				t.Errorf("%s: got %d, %v; want %d, %v", what, n, err, want, wantErr)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	f("nothing", readNow, -1, syscall.EAGAIN)
	for n := len(buffer); n > 0; { // until it is full
		_ = control(server, func(fd int) (err error) {
			n, err = writeNow(fd, buffer)
			return err
		})
	}
	f("full", writeNow, 0, nil)
	_, _ = io.WriteString(client, "abc")
	f("something", readNow, 3, nil)
	_ = client.SetLinger(0)
	_ = client.Close()
	f("reset", writeNow, 0, syscall.ECONNRESET)
}
