package server_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"mirror/internal/upstream/upstreamtest"
)

// restart ends the faults of docker.io, and the connections that they hold up.
func (h *harness) restart() {
	h.hub.Heal()
	h.hub.Stop()
	h.hub.Start()
}

// transfer starts a download that stops in its middle until resume, and returns once its headers are here.
func (h *harness) transfer(content []byte) (c *client, resume func()) {
	h.t.Helper()
	d := h.hub.AddBlob("org/app", content)
	h.hub.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{StallAfter: 1 << 20})
	c = h.dial()
	c.send(request("GET", blobPath("org/app", d)))
	if _, err := c.in.Peek(1); err != nil {
		h.t.Fatal(err)
	}
	return c, func() {
		h.restart()
		h.stored(d)
	}
}

// TestShutdownLetsTransfersFinish checks a stop with enough time.
func TestShutdownLetsTransfersFinish(t *testing.T) {
	h := newHarness(t)
	content := pattern(6 << 20)
	kept := h.dial()
	kept.send("GET /v2/ HTTP/1.1\r\n")
	busy, resume := h.transfer(content)
	stopped := make(chan struct{})
	go func() { defer close(stopped); h.close() }()
	eventually(t, "new connections are refused", func() bool { return refused(h) })

	// A connection that was open gets its request answered, with where to go next, and is closed.
	kept.send("Host: mirror.test\r\n\r\n")
	a := kept.read("GET").want(t, 503)
	checkErrorBody(t, a, "UNAVAILABLE")
	if a.Header.Get("Retry-After") == "" || !a.Close || !kept.ended() {
		t.Errorf("got %v, want Retry-After and an end", a.Header)
	}

	resume()
	busy.read("GET").want(t, 200).wantBody(t, content)
	<-stopped
	if err := h.server.Shutdown(context.Background()); err != nil {
		t.Errorf("second shutdown: %v", err)
	}
}

func refused(h *harness) bool {
	c, err := dialQuietly(h.addr)
	if err != nil {
		return true
	}
	_ = c.Close()
	return false
}

// TestShutdownCutsWhatTakesTooLong checks a stop whose time is over: what is left ends, in an orderly way.
func TestShutdownCutsWhatTakesTooLong(t *testing.T) {
	h := newHarness(t)
	busy, resume := h.transfer(pattern(6 << 20))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	err := h.server.Shutdown(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 connections were cut") {
		t.Errorf("got %v, want the deadline and one connection", err)
	}
	if err := <-h.served; err != nil {
		t.Errorf("serve: %v", err)
	}
	h.stop.Do(func() {})
	if a := busy.read("GET"); a.err != io.ErrUnexpectedEOF {
		t.Errorf("got %d bytes, %v; want a short body", len(a.body), a.err)
	}
	resume()
}

// TestShutdownEndsRequestsThatWait checks a stop while the upstream says nothing: nobody waits for it any longer.
func TestShutdownEndsRequestsThatWait(t *testing.T) {
	h := newHarness(t)
	h.hub.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Hang: true})
	c := h.dial()
	c.send(request("GET", manifestPath("org/app", "1")))
	eventually(t, "the upstream is asked", func() bool { return h.upstreamRequests() > 0 })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := h.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := <-h.served; err != nil {
		t.Errorf("serve: %v", err)
	}
	h.stop.Do(func() {})
	if !c.ended() {
		t.Error("the connection did not end in an orderly way")
	}
	h.hub.Stop()
}

// TestServeAfterShutdown checks that a server that has stopped stays so.
func TestServeAfterShutdown(t *testing.T) {
	h := newHarness(t)
	h.close()
	ln := listen(t)
	if err := h.server.Serve(ln); err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := ln.Accept(); err == nil {
		t.Error("the listener is open")
	}
}

// TestSeveralListeners checks that one server answers on two and stops on both.
func TestSeveralListeners(t *testing.T) {
	h := newHarness(t)
	ln := listen(t)
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(ln) }()
	first := h.addr
	for _, addr := range []string{first, ln.Addr().String()} {
		h.addr = addr
		h.get("/v2/").want(t, 200)
	}
	h.close()
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}

// TestShutdownClosesIdleConnections at once, and waits some seconds for the first request of new ones.
func TestShutdownClosesIdleConnections(t *testing.T) {
	h := newHarness(t)
	h.hub.AddImage("org/app", "1", 100)
	manifest := request("GET", manifestPath("org/app", "1"))
	h.warm(manifest)
	var idle []*client
	for _, raw := range []string{manifest, request("GET", "/v2/"), request("GET", "/v2/"), manifest} { // quick answers, and others
		c := h.dial()
		for range 2 {
			c.send(raw)
			c.read("GET").want(t, 200)
		}
		idle = append(idle, c)
	}
	fresh := h.dial()
	eventually(t, "the new connection is accepted", func() bool { return h.metric("mirror_connections") >= 5 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); h.close() }()
	for i, c := range idle {
		if !c.ended() {
			t.Errorf("idle connection %d did not end in an orderly way", i)
		}
	}
	fresh.send(manifest)
	if a := fresh.read("GET").want(t, 503); !a.Close || !fresh.ended() {
		t.Errorf("new connection: got %v, want an end", a.Header)
	}
	<-stopped
}
