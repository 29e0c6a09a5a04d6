package server_test

import (
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"mirror/internal/server"
)

// own is a header that changes no answer and that quick answers do not know.
const own = "TE: trailers"

// warm asks until content is in memory, where quick answers find it.
func (h *harness) warm(raw string) {
	h.t.Helper()
	for begin := time.Now(); server.Quick(h.server, raw) == nil; time.Sleep(5 * time.Millisecond) {
		if a := h.raw("GET", raw); a.err != nil {
			h.t.Fatal(a.err)
		}
		if time.Since(begin) > patience {
			h.t.Fatalf("no quick answer after %v: %q", patience, raw)
		}
	}
}

// exact reads an answer as its bytes, on a connection of its own.
func (h *harness) exact(raw string) string {
	h.t.Helper()
	c := h.dial()
	defer c.Close()
	c.send(raw)
	_ = c.Conn.(interface{ CloseWrite() error }).CloseWrite()
	b, err := io.ReadAll(c.in)
	if err != nil {
		h.t.Fatal(err)
	}
	return regexp.MustCompile(`X-Request-Id: [A-Z0-9]+-[a-z0-9]+`).ReplaceAllString(string(b), "X-Request-Id: ID")
}

// TestQuickAnswersAreTheSame compares what hits are answered with quickly and by all steps, byte by byte.
func TestQuickAnswersAreTheSame(t *testing.T) {
	h := newHarness(t)
	image := h.hub.AddImage("org/app", "1", 100)
	manifest, byDigest := "/v2/org/app/manifests/1", "/v2/org/app/manifests/"+image.Digest.String()
	both := []string{"GET", "HEAD"}
	f := func(target string, methods []string, headers ...string) {
		t.Helper()
		for _, form := range []string{target, "/docker.io" + target, target + "?ns=docker.io", "/v2/docker.io/" + target[4:]} {
			for _, method := range methods {
				quick := request(method, form, headers...)
				h.warm(quick)
				got, want := h.exact(quick), h.exact(request(method, form, append(headers, own)...))
				if got != want {
					t.Errorf("%q: quick answer\n%.600q, want\n%.600q", quick, got, want)
				}
			}
		}
	}
	for _, target := range []string{manifest, byDigest} {
		f(target, both)
		f(target, both, "X-Request-Id: a-trace")
		f(target, both, "Connection: keep-alive", "User-Agent: x")
	}
	f(byDigest, both, "Accept: */*", "Accept: text/html")
	for _, size := range []int{0, 4096, 40 << 10, 3 << 20} { // in memory, long, and a file
		target, methods := blobPath("org/app", h.hub.AddBlob("org/app", pattern(size))), both
		if size > 1<<20 {
			methods = []string{"GET"}
		} else {
			h.warmMemory(request("GET", target))
		}
		f(target, methods)
		f(target, methods, "X-Request-Id: a-trace")
		f(target, []string{"GET"}, "Range: pages=1-2")
		if size > 0 {
			f(target, []string{"GET"}, "Range: bytes=0-0")
			f(target, []string{"GET"}, "Range: bytes=100-2999", "Accept: */*")
			f(target, []string{"GET"}, "Range: bytes=-1000")
			f(target, []string{"GET"}, "range:bytes=3000-99999999")
		}
	}
}

// warmMemory asks until content is served from memory.
func (h *harness) warmMemory(raw string) {
	h.t.Helper()
	eventually(h.t, "content is in memory", func() bool {
		return h.raw("GET", raw).want(h.t, 200).Header.Get("X-Cache-Source") == "memory"
	})
}

// TestNotForQuickAnswers has requests that need more than a look.
func TestNotForQuickAnswers(t *testing.T) {
	h := newHarness(t)
	h.hub.AddImage("org/app", "1", 100)
	blob := h.hub.AddBlob("org/app", pattern(4096))
	large := h.hub.AddBlob("org/app", pattern(3<<20))
	manifest := "/v2/org/app/manifests/1"
	h.warm(request("GET", manifest))
	h.warm(request("GET", blobPath("org/app", blob)))
	h.warm(request("GET", blobPath("org/app", large)))
	for what, raw := range map[string]string{
		"two parts":      request("GET", blobPath("org/app", blob), "Range: bytes=0-1,4-5"),
		"part beyond":    request("GET", blobPath("org/app", large), "Range: bytes=9999999-"),
		"part of a head": request("HEAD", blobPath("org/app", blob), "Range: bytes=0-1"),
		"manifest part":  request("GET", manifest, "Range: bytes=0-1"),
		"two ranges":     request("GET", blobPath("org/app", large), "Range: bytes=0-1", "Range: bytes=0-1"),
		"if range":       request("GET", blobPath("org/app", large), "Range: bytes=0-1", "If-Range: a"),
		"head of a file": request("HEAD", blobPath("org/app", large)),
		"condition":      request("GET", manifest, "If-None-Match: *"),
		"other type":     request("GET", manifest, "Accept: text/html"),
		"close":          request("GET", manifest, "Connection: close"),
		"via":            request("GET", manifest, "Via: 1.1 somebody"),
		"body":           request("GET", manifest, "Content-Length: 1") + "x",
		"chunks":         request("GET", manifest, "Transfer-Encoding: chunked") + "0\r\n\r\n",
		"expectation":    request("GET", manifest, "Expect: 100-continue"),
		"folded":         request("GET", manifest, "X-A: b", " c"),
		"bare line feed": "GET " + manifest + " HTTP/1.1\nHost: a\n\n",
		"no host":        "GET " + manifest + " HTTP/1.1\r\n\r\n",
		"two hosts":      request("GET", manifest, "Host: b"),
		"old version":    "GET " + manifest + " HTTP/1.0\r\nHost: a\r\n\r\n",
		"blank in path":  "GET /v2/org/app/manifests/1 HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
		"fragment":       request("GET", manifest+"#a"),
		"other method":   request("POST", manifest),
		"another tag":    request("GET", "/v2/org/app/manifests/2"),
		"other registry": request("GET", "/v2/ghcr.io/org/app/manifests/1"),
		"unknown blob":   request("GET", blobPath("org/other", blob)),
		"ping":           request("GET", "/v2/"),
		"tags":           request("GET", "/v2/org/app/tags/list"),
		"half":           strings.TrimSuffix(request("GET", manifest), "\r\n"),
	} {
		if got := server.Quick(h.server, raw); got != nil {
			t.Errorf("%s: quick answer %q", what, got)
		}
	}
}

// TestQuickAndOtherRequestsOnOneConnection mixes requests that are answered quickly with others, in one piece and in pieces that
// end anywhere.
func TestQuickAndOtherRequestsOnOneConnection(t *testing.T) {
	h := newHarness(t)
	h.hub.AddImage("org/app", "1", 100)
	blob := h.hub.AddBlob("org/app", pattern(4096))
	manifest := "/v2/org/app/manifests/1"
	h.warm(request("GET", manifest))
	h.warm(request("GET", blobPath("org/app", blob)))
	requests := []string{
		request("GET", manifest), request("GET", blobPath("org/app", blob)), request("GET", blobPath("org/app", blob), "Range: bytes=1-9"),
		request("GET", manifest), request("GET", "/v2/"), request("GET", manifest, own), request("GET", manifest), request("GET", blobPath("org/app", blob)),
		request("GET", manifest, "X-Long: "+strings.Repeat("x", 6000)), request("GET", manifest), request("GET", "/v2/org/app/tags/list", own),
	}
	var want []string
	for _, r := range requests {
		want = append(want, h.exact(r))
	}
	all := strings.Join(requests, "")
	for _, piece := range []int{len(all), 4096, 1000, 300, 97} {
		c := h.dial()
		go func() {
			for rest := all; rest != ""; {
				n := min(piece, len(rest))
				c.send(rest[:n])
				rest = rest[n:]
				time.Sleep(time.Millisecond)
			}
			_ = c.Conn.(interface{ CloseWrite() error }).CloseWrite()
		}()
		b, err := io.ReadAll(c.in)
		got := regexp.MustCompile(`X-Request-Id: [A-Z0-9]+-[a-z0-9]+`).ReplaceAllString(string(b), "X-Request-Id: ID")
		if err != nil || got != strings.Join(want, "") {
			t.Errorf("pieces of %d: got %d bytes, %v; want %d", piece, len(got), err, len(strings.Join(want, "")))
		}
		_ = c.Close()
	}
}

// TestQuickAnswersAreCounted looks for them in metrics and log.
func TestQuickAnswersAreCounted(t *testing.T) {
	h := newHarness(t)
	h.hub.AddImage("org/app", "1", 100)
	raw := request("GET", "/v2/org/app/manifests/1", "X-Request-Id: the-trace")
	h.warm(raw)
	counts := func() [3]float64 {
		return [3]float64{
			h.metric("mirror_requests_total", "kind=manifest", "method=GET", "code=200"),
			h.metric("mirror_lookups_total", "kind=manifest", "outcome=hit", "source=memory"),
			h.metric("mirror_served_bytes_total", "source=memory"),
		}
	}
	before := counts()
	a := h.raw("GET", raw).want(t, 200)
	want := [3]float64{before[0] + 1, before[1] + 1, before[2] + float64(len(a.body))}
	if got := counts(); got != want {
		t.Errorf("requests, lookups and bytes are %v, want %v", got, want)
	}
	h.closeClients()
	h.close()
	line := fmt.Sprintf(`"request":"the-trace","repository":"docker.io/org/app","reference":"1","bytes":%d`, len(a.body))
	if len(h.logs.lines(line)) == 0 {
		t.Errorf("the log has no %s", line)
	}
}

// TestQuickAnswersAllocateNothing, from the second one of an address on, and little when they come from a file.
func TestQuickAnswersAllocateNothing(t *testing.T) {
	h := newHarnessWith(t, options{level: slog.LevelWarn})
	h.hub.AddImage("org/app", "1", 100)
	blob, large := h.hub.AddBlob("org/app", pattern(4096)), h.hub.AddBlob("org/app", pattern(3<<20))
	f := func(raw string, most float64) {
		t.Helper()
		h.warm(raw)
		q := server.NewQuick(h.server, raw)
		if got := testing.AllocsPerRun(1000, func() { q.Answer() }); got > most {
			t.Errorf("%q: %v allocations, want at most %v", raw, got, most)
		}
	}
	f(request("GET", "/v2/org/app/manifests/1", "Accept: text/html", "Accept: application/vnd.oci.image.manifest.v1+json"), 0)
	f(request("HEAD", "/docker.io/v2/org/app/manifests/1"), 0)
	h.warmMemory(request("GET", blobPath("org/app", blob)))
	f(request("GET", blobPath("org/app", blob)), 0)
	f(request("GET", blobPath("org/app", large), "Range: bytes=5-1000"), 30)
}

// TestLongAnswerIsNoIdleTime: what a connection may wait for its next request begins when the answer is over.
func TestLongAnswerIsNoIdleTime(t *testing.T) {
	h := newHarness(t)
	raw := request("GET", blobPath("org/app", h.hub.AddBlob("org/app", pattern(3<<20))))
	h.warm(raw)
	q := server.NewQuick(h.server, raw)
	q.SetRenewed(time.Now().Add(-time.Hour))
	if q.Answer() == nil {
		t.Fatal("no quick answer")
	}
	if idle := time.Since(q.Renewed()); idle > time.Minute {
		t.Errorf("the connection counts as idle for %v", idle)
	}
}
