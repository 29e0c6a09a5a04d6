package upstreamtest

import (
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// server is an HTTP server that can leave its address and come back to it.
type server struct {
	address string
	handler http.Handler

	mu      sync.Mutex   // held by one start or stop
	running *http.Server // nil while stopped
	done    chan struct{}

	handlers sync.Mutex // guards busy, which a wait group cannot count: a handler may start while somebody waits
	busy     int
	idle     *sync.Cond
}

func startServer(t testing.TB, handler http.Handler) *server {
	t.Helper()
	s := &server{address: "127.0.0.1:0", handler: handler}
	s.idle = sync.NewCond(&s.handlers)
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

// start listens, again under the address of the first time.
func (s *server) start(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return
	}
	listener, err := net.Listen("tcp", s.address)
	// A connection of the time before may hold the port for a moment.
	for range 50 {
		if err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
		listener, err = net.Listen("tcp", s.address)
	}
	if err != nil {
		t.Fatalf("listen on %s: %v", s.address, err)
	}
	s.address = listener.Addr().String()
	running, done := &http.Server{Handler: http.HandlerFunc(s.serve), ErrorLog: log.New(io.Discard, "", 0)}, make(chan struct{})
	s.running, s.done = running, done
	go func() {
		defer close(done)
		_ = running.Serve(listener) // ends with ErrServerClosed
	}()
}

func (s *server) serve(w http.ResponseWriter, req *http.Request) {
	s.enter(1)
	defer s.enter(-1)
	s.handler.ServeHTTP(w, req)
}

func (s *server) enter(n int) {
	s.handlers.Lock()
	defer s.handlers.Unlock()
	s.busy += n
	s.idle.Broadcast()
}

// stop closes the listener and every connection, which ends the handlers' contexts, and waits for the handlers.
func (s *server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return
	}
	_ = s.running.Close()
	<-s.done
	s.running = nil
	s.handlers.Lock()
	defer s.handlers.Unlock()
	for s.busy > 0 {
		s.idle.Wait()
	}
}
