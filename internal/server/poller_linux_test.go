package server_test

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mirror/internal/server"
)

// pollable is a server with a manifest that is answered in a turn, and the request for it.
func pollable(t *testing.T) (h *harness, manifest string) {
	t.Helper()
	h = newHarness(t)
	h.hub.AddImage("org/app", "1", 100)
	manifest = request("GET", manifestPath("org/app", "1"))
	h.warm(manifest)
	h.closeClients()
	eventually(t, "nobody is connected", func() bool { return server.PhasesOf(h.server) == server.Phases{} })
	return h, manifest
}

// asked is a connection on which one request was answered.
func (h *harness) asked(raw string) *client {
	h.t.Helper()
	c := h.dial()
	c.send(raw)
	c.read("GET").want(h.t, 200)
	return c
}

// TestConnectionsWaitWhereTheyShould follows one through its phases.
func TestConnectionsWaitWhereTheyShould(t *testing.T) {
	h, manifest := pollable(t)
	phases := func(what string, want server.Phases) {
		t.Helper()
		eventually(t, what, func() bool { return server.PhasesOf(h.server) == want })
	}
	server.SetTimes(h.server, time.Minute, time.Hour)
	c := h.dial()
	phases("a new connection waits for its first request", server.Phases{New: 1})
	ask := func(raw string) {
		t.Helper()
		c.send(raw)
		c.read("GET").want(t, 200)
	}
	ask(manifest)
	phases("after a quick answer it is idle", server.Phases{Idle: 1})
	ask(request("GET", "/v2/"))
	phases("after another answer it keeps its goroutine", server.Phases{Kept: 1})
	ask(manifest)
	phases("for all that follows", server.Phases{Kept: 1})
	_ = c.Close()
	phases("until the client leaves", server.Phases{})

	server.SetTimes(h.server, time.Minute, time.Millisecond)
	c = h.dial()
	ask(request("GET", "/v2/"))
	phases("it goes back when it is quiet", server.Phases{Idle: 1})
	ask(manifest)
	phases("and is answered from there", server.Phases{Idle: 1})
	c.send(manifest[:20])
	phases("half a request keeps a goroutine busy", server.Phases{Busy: 1})
	c.send(manifest[20:])
	c.read("GET").want(t, 200)
	phases("until it is answered", server.Phases{Idle: 1})
	_ = c.Close()
	phases("then the client leaves", server.Phases{})
}

// TestAnswersInTheOrderOfRequests has pollers find many requests at once.
func TestAnswersInTheOrderOfRequests(t *testing.T) {
	h, manifest := pollable(t)
	var clients []*client
	for range 40 {
		clients = append(clients, h.asked(manifest))
	}
	release := server.PollersOf(h.server).Hold()
	for _, i := range rand.Perm(len(clients)) {
		clients[i], clients[0] = clients[0], clients[i]
	}
	for _, c := range clients {
		c.send(manifest)
		eventually(t, "the request is there", func() bool { return server.ConnOf(h.server, c.LocalAddr()).Unread == len(manifest) })
	}
	release()
	last := make(map[any]int64)
	for i, c := range clients {
		c.read("GET").want(t, 200)
		own := server.ConnOf(h.server, c.LocalAddr())
		if own.Active <= last[own.Poller] {
			t.Errorf("request %d was answered before another of its poller that had come earlier", i)
		}
		last[own.Poller] = own.Active
	}
}

// TestClientThatDoesNotRead asks for more than the kernel keeps. Its answers wait for it, and nobody waits for them.
func TestClientThatDoesNotRead(t *testing.T) {
	h, manifest := pollable(t)
	content := pattern(30 << 10)
	blob := request("GET", blobPath("org/app", h.hub.AddBlob("org/app", content)))
	h.warmMemory(blob)
	const requests = 2000
	c := h.dial()
	go c.send(strings.Repeat(blob, requests))
	eventually(t, "it holds up a goroutine of its own", func() bool { return server.PhasesOf(h.server).Busy == 1 })
	for range 8 { // some for each poller
		h.asked(manifest)
	}
	for i := range requests {
		a, err := http.ReadResponse(c.in, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if body, err := io.ReadAll(a.Body); err != nil || !bytes.Equal(body, content) {
			t.Fatalf("answer %d: %d bytes, %v", i, len(body), err)
		}
	}
	eventually(t, "all is counted", func() bool {
		return h.metric("mirror_served_bytes_total", "source=memory") >= requests*float64(len(content))
	})
}

// TestClientThatNeverReads is closed when its time is over, in a turn's answer and in a long one: an answer that was cut must not be taken
// for one that is over, with the next behind it.
func TestClientThatNeverReads(t *testing.T) {
	h, manifest := pollable(t)
	small, large := h.hub.AddBlob("org/app", pattern(30<<10)), h.hub.AddBlob("org/app", pattern(20<<20))
	h.warmMemory(request("GET", blobPath("org/app", small)))
	h.warm(request("GET", blobPath("org/app", large)))
	server.SetTimes(h.server, 300*time.Millisecond, time.Second)
	for what, raw := range map[string]string{
		"many short answers": strings.Repeat(request("GET", blobPath("org/app", small)), 600),
		"a long one":         request("GET", blobPath("org/app", large)),
	} {
		t.Run(what, func(t *testing.T) {
			h.closeClients()
			eventually(t, "nobody is connected", func() bool { return server.PhasesOf(h.server) == server.Phases{} })
			c := h.dial()
			c.send(raw)
			eventually(t, "the server is busy with it", func() bool { return server.PhasesOf(h.server).Busy == 1 })
			eventually(t, "its connection is closed", func() bool { return server.PhasesOf(h.server) == server.Phases{} })
			c.send(manifest)
			all, _ := io.ReadAll(c.in) // the end may be a reset
			for in := bufio.NewReader(bytes.NewReader(all)); ; {
				a, err := http.ReadResponse(in, nil)
				if err != nil {
					break
				}
				if body, _ := io.ReadAll(a.Body); bytes.Contains(body, []byte("HTTP/1.1 ")) {
					t.Fatal("an answer has another one in it")
				}
			}
		})
	}
}

// TestClientThatNeverStopsAsking holds up nobody.
func TestClientThatNeverStopsAsking(t *testing.T) {
	h, manifest := pollable(t)
	for range 4 { // some for each poller
		c := h.dial()
		go func() { // until it is closed
			for all := []byte(strings.Repeat(strings.Replace(manifest, "GET", "HEAD", 1), 200)); ; {
				if _, err := c.Write(all); err != nil {
					return
				}
			}
		}()
		go func() { _, _ = io.Copy(io.Discard, c.Conn) }()
	}
	eventually(t, "they keep goroutines busy", func() bool { return server.PhasesOf(h.server).New == 0 })
	for range 8 {
		h.asked(manifest)
	}
	h.closeClients()
}

// TestUrgentBytes end a read early. What is behind them is answered all the same.
func TestUrgentBytes(t *testing.T) {
	h, manifest := pollable(t)
	c := h.asked(manifest)
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	release := server.PollersOf(h.server).Hold() // one report for all of it
	err = raw.Control(func(fd uintptr) {
		for _, part := range []struct {
			text  string
			flags int
		}{{manifest, 0}, {"x", unix.MSG_OOB}, {manifest, 0}} {
			if err := unix.Sendto(int(fd), []byte(part.text), part.flags, nil); err != nil {
				t.Error(err)
			}
		}
	})
	eventually(t, "all has come", func() bool { return server.ConnOf(h.server, c.LocalAddr()).Unread >= len(manifest) })
	time.Sleep(10 * time.Millisecond)
	release()
	if err != nil {
		t.Fatal(err)
	}
	c.read("GET").want(t, 200)
	c.read("GET").want(t, 200)
}

// TestQuietConnectionsAreClosed when their time is over, which is another one before the first request.
func TestQuietConnectionsAreClosed(t *testing.T) {
	h, manifest := pollable(t)
	server.SetTimes(h.server, time.Minute, time.Hour)
	fresh, idle, kept, busy := h.dial(), h.asked(manifest), h.asked(request("GET", "/v2/")), h.dial()
	busy.send(manifest[:20])
	want := server.Phases{New: 1, Idle: 1, Kept: 1, Busy: 1}
	eventually(t, "all are there", func() bool { return server.PhasesOf(h.server) == want })
	pollers := server.PollersOf(h.server)
	pollers.Sweep(h.server, 29*time.Second)
	if got := server.PhasesOf(h.server); got != want {
		t.Errorf("after 29 seconds: %+v", got)
	}
	pollers.Sweep(h.server, 2*time.Second)
	if !fresh.ended() {
		t.Error("one without a request is open after 31 seconds")
	}
	if got := server.PhasesOf(h.server); (got != server.Phases{Idle: 1, Kept: 1, Busy: 1}) {
		t.Errorf("after 31 seconds: %+v", got)
	}
	kept.send(request("GET", "/v2/"))
	kept.read("GET").want(t, 200)
	pollers.Sweep(h.server, time.Minute)
	if !idle.ended() {
		t.Error("an idle one is open after 91 seconds")
	}
	busy.send(manifest[20:])
	busy.read("GET").want(t, 200)
	kept.send(manifest)
	kept.read("GET").want(t, 200)
}

// TestPollersEnd once the listener is closed and the last connection has left.
func TestPollersEnd(t *testing.T) {
	h, manifest := pollable(t)
	for range 4 {
		h.asked(manifest)
	}
	h.dial()
	eventually(t, "all are there", func() bool { return server.PhasesOf(h.server) == server.Phases{New: 1, Idle: 4} })
	pollers := server.PollersOf(h.server)
	if len(pollers) == 0 || pollers.Ended() {
		t.Fatalf("%d pollers, or they have ended", len(pollers))
	}
	h.clients[len(h.clients)-1].send(manifest)
	h.close()
	eventually(t, "the pollers have ended", pollers.Ended)
}

// TestClientsComeAndGo at any moment, so that descriptors are used again while reports of them are on their way.
func TestClientsComeAndGo(t *testing.T) {
	h, manifest := pollable(t)
	want := h.exact(manifest)
	seed := rand.Uint64()
	var all sync.WaitGroup
	for n := range 8 {
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		all.Go(func() {
			for range 150 {
				if got, asked := h.visit(random, manifest); asked && got != want {
					t.Errorf("seed %d: got %q, want %q", seed, got, want)
				}
			}
		})
	}
	all.Wait()
	eventually(t, "all have left", func() bool {
		return server.PhasesOf(h.server) == server.Phases{} && h.metric("mirror_connections") == 0
	})
}

// visit does what some client does. asked says that it asked for the manifest, and got that.
func (h *harness) visit(random *rand.Rand, manifest string) (got string, asked bool) {
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Error(err)
		return "", false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if random.IntN(2) == 0 {
		_ = c.(*net.TCPConn).SetLinger(0) // what it leaves by is a reset then
	}
	switch before := random.IntN(5); before {
	case 0, 1: // one answer before
		raw := []string{manifest, request("GET", "/v2/")}[before]
		_, _ = io.WriteString(c, raw)
		if a := (&client{h.t, c, bufio.NewReader(c)}).read("GET"); a.StatusCode != 200 {
			h.t.Errorf("got %d", a.StatusCode)
		}
	case 2: // left in the middle of a request
		_, _ = io.WriteString(c, manifest[:random.IntN(len(manifest))])
		return "", false
	case 3: // left without the answer
		_, _ = io.WriteString(c, manifest)
		return "", false
	}
	_, _ = io.WriteString(c, manifest)
	_ = c.(*net.TCPConn).CloseWrite()
	return h.rest(c), true
}
