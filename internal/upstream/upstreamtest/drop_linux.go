package upstreamtest

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// Drop takes the registry off the network without a word: whoever dials its address gets no answer at all, as behind a
// firewall that drops packets. It lasts until the end of the test.
func (r *Registry) Drop() {
	r.t.Helper()
	r.Stop()
	listener, err := net.Listen("tcp", r.Host)
	for range 50 { // a connection of the time before may hold the port for a moment
		if err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
		listener, err = net.Listen("tcp", r.Host)
	}
	if err != nil {
		r.t.Fatalf("listen on %s: %v", r.Host, err)
	}
	r.t.Cleanup(func() { _ = listener.Close() })
	r.shrinkBacklog(listener.(*net.TCPListener))
	// Nobody accepts, so the kernel drops what finds the queue full.
	for range 10 {
		conn, err := net.DialTimeout("tcp", r.Host, 300*time.Millisecond)
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			return
		}
		if err != nil {
			r.t.Fatalf("fill the queue of %s: %v", r.Host, err)
		}
		r.t.Cleanup(func() { _ = conn.Close() })
	}
	r.t.Fatalf("the queue of %s does not get full", r.Host)
}

// shrinkBacklog leaves room for one connection that waits to be accepted.
func (r *Registry) shrinkBacklog(listener *net.TCPListener) {
	raw, err := listener.SyscallConn()
	if err != nil {
		r.t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), 0) }); err != nil || failed != nil {
		r.t.Fatal(err, failed)
	}
}
