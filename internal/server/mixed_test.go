package server_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"mirror/internal/server"
)

// Both ways to an answer, ours and fasthttp's, seen from outside.

var ownID = regexp.MustCompile(`X-Request-Id: [A-Z0-9]+-[a-z0-9]+`)

// secured is a server with TLS.
func secured(t *testing.T) *harness {
	certificate, key := keyPair(t, t.TempDir(), "first")
	return newHarnessWith(t, options{server: server.Config{TLS: server.TLSConfig{Certificate: certificate, Key: key}}})
}

// socket is one end of a connection that can be half closed.
type socket interface {
	net.Conn
	CloseWrite() error
}

// socket connects, with TLS or without.
func (h *harness) socket(secure bool) socket {
	h.t.Helper()
	var c net.Conn
	var err error
	if secure {
		c, err = tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true})
	} else {
		c, err = net.Dial("tcp", h.addr)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	return c.(socket)
}

// rest reads all answers that are still to come.
func (h *harness) rest(c net.Conn) string {
	h.t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		h.t.Errorf("after %d bytes: %v", len(b), err)
	}
	return ownID.ReplaceAllString(string(b), "X-Request-Id: ID")
}

// ask sends requests and reads all answers.
func (h *harness) ask(secure bool, raw string) string {
	h.t.Helper()
	c := h.socket(secure)
	defer c.Close()
	_, _ = io.WriteString(c, raw)
	_ = c.CloseWrite()
	return h.rest(c)
}

// TestAnyMixOfRequests sends requests of all kinds one behind the other, in pieces that end anywhere, and gets the answers that
// each gets alone.
func TestAnyMixOfRequests(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("secure %v", secure), func(t *testing.T) {
			h := newHarness(t)
			if secure {
				h = secured(t)
			}
			requests, answers := mixture(h, secure)
			seed := rand.Uint64()
			random := rand.New(rand.NewPCG(seed, 0))
			for range 60 {
				var all, want strings.Builder
				for range 1 + random.IntN(14) {
					i := random.IntN(len(requests))
					all.WriteString(requests[i])
					want.WriteString(answers[i])
					if strings.Contains(answers[i][:min(len(answers[i]), 1000)], "Connection: close") {
						break
					}
				}
				c := h.socket(secure)
				go inPieces(c, all.String(), []int{1, 50, 500, 5000, 100_000}[random.IntN(5)])
				if got := h.rest(c); got != want.String() {
					t.Fatalf("seed %d: %.2000q: got %d bytes, want %d", seed, all.String(), len(got), want.Len())
				}
			}
		})
	}
}

// mixture is requests of every kind, and their answers.
func mixture(h *harness, secure bool) (requests, answers []string) {
	h.hub.AddImage("org/app", "1", 100)
	manifest, inner := "/v2/org/app/manifests/1", request("GET", "/v2/org/app/manifests/1")
	blob, file := blobPath("org/app", h.hub.AddBlob("org/app", pattern(4096))), blobPath("org/app", h.hub.AddBlob("org/app", pattern(2<<20)))
	eventually(h.t, "all is ready", func() bool {
		ready := true
		for _, path := range []string{manifest, blob, file} {
			h.ask(secure, request("GET", path))
			ready = ready && server.Quick(h.server, request("GET", path)) != nil
		}
		return ready
	})
	length := fmt.Sprintf("Content-Length: %d", len(inner))
	requests = []string{
		request("GET", manifest), request("HEAD", manifest), request("GET", blob), request("GET", file), request("GET", file, "Range: bytes=5-100000"),
		request("GET", "/v2/"), request("HEAD", "/v2/", own), request("GET", manifest, length) + inner, request("HEAD", manifest, length) + inner,
		request("GET", manifest, length, "Expect: 100-continue") + inner, "GET " + manifest + " HTTP/1.0\r\nHost: mirror.test\r\nConnection: keep-alive\r\n\r\n",
		request("GET", manifest, "X-Long: "+strings.Repeat("x", 9000)), request("GET", "/v2/Org/app/manifests/none"), "\r\n" + request("GET", manifest),
		request("POST", manifest), request("GET", blob, "If-None-Match: *"),
	}
	for _, r := range requests {
		answers = append(answers, h.ask(secure, r))
	}
	return requests, answers
}

// inPieces sends text in pieces of random length, now and then after a pause.
func inPieces(c socket, text string, most int) {
	for n := 0; text != ""; n++ {
		k := min(len(text), 1+rand.IntN(most))
		_, _ = io.WriteString(c, text[:k]) // the server may have hung up
		if text = text[k:]; n%200 == 199 || most > 1 && n%3 == 2 {
			time.Sleep(time.Millisecond)
		}
	}
	_ = c.CloseWrite()
}

// TestHostsAreReadAlike by both ways to an answer: a host may choose the registry.
func TestHostsAreReadAlike(t *testing.T) {
	h := newHarness(t)
	h.hub.AddImage("org/app", "1", 100)
	h.ghcr.AddImage("org/app", "1", 200)
	with := func(host string, extra ...string) string {
		return strings.Join(append([]string{"GET /v2/org/app/manifests/1 HTTP/1.1", "Host: " + host}, extra...), "\r\n") + "\r\n\r\n"
	}
	h.warm(with("mirror.test"))
	h.warm(with("ghcr.test:443"))
	h.warm(with("GHCR.TEST"))
	hosts := []string{
		"ghcr.test", "ghcr.test:5000", "ghcr.test:", "ghcr.test:abc", "ghcr.test:1:2", "x@ghcr.test", "x:y@ghcr.test", "ghcr.test@x", "ghcr%2etest", "a b",
		"[::1", "[::1]:80", "%zz", "ghcr.test.", "ghcr.test/x", ":80", "",
	}
	for c := '!'; c <= '~'; c++ {
		hosts = append(hosts, "m"+string(c)+"n", string(c)+"ghcr.test")
	}
	for _, host := range hosts {
		if got, want := h.exact(with(host)), h.exact(with(host, own)); got != want {
			t.Errorf("host %q: %.150q, want %.150q", host, got, want)
		}
	}
}

// TestStopUnderTLS closes what is between two requests, and answers what has begun, if with one byte.
func TestStopUnderTLS(t *testing.T) {
	for _, secure := range []bool{false, true} {
		h := newHarness(t)
		if secure {
			h = secured(t)
		}
		raw := request("GET", "/v2/")
		idle, begun := h.socket(secure), h.socket(secure)
		for _, c := range []socket{idle, begun} {
			_, _ = io.WriteString(c, raw)
			if _, err := c.Read(make([]byte, 4096)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "both are idle", func() bool { return server.Busy(h.server) == 0 })
		_, _ = io.WriteString(begun, raw[:1])
		eventually(t, "the byte is there", func() bool { return server.Busy(h.server) == 1 })
		stopped := make(chan struct{})
		go func() { defer close(stopped); h.close() }()
		if got := h.rest(idle); got != "" {
			t.Errorf("secure %v, idle: %.100q", secure, got)
		}
		_, _ = io.WriteString(begun, raw[1:])
		if got := h.rest(begun); !strings.HasPrefix(got, "HTTP/1.1 503 ") {
			t.Errorf("secure %v, begun: %.100q", secure, got)
		}
		<-stopped
	}
}

// TestStopWithoutTime cuts nothing when nobody has anything to do.
func TestStopWithoutTime(t *testing.T) {
	h := newHarness(t)
	for range 3 {
		c := h.dial()
		c.send(request("GET", "/v2/"))
		c.read("GET").want(t, 200)
	}
	h.dial()
	eventually(t, "all are accepted", func() bool { return h.metric("mirror_connections") >= 4 })
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.server.Shutdown(over); err != nil {
		t.Error(err)
	}
	if err := <-h.served; err != nil {
		t.Error(err)
	}
	h.stop.Do(func() {})
}

// TestEmptyAnswersAreCountedAlike: an empty body has no first byte.
func TestEmptyAnswersAreCountedAlike(t *testing.T) {
	h := newHarness(t)
	raw := request("GET", blobPath("org/app", h.hub.AddBlob("org/app", nil)))
	h.warm(raw)
	before := h.metric("mirror_first_byte_seconds", "outcome=hit")
	h.exact(raw)
	if got := h.metric("mirror_first_byte_seconds", "outcome=hit"); got != before {
		t.Errorf("%v first bytes, want %v", got, before)
	}
}
