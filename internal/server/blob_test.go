package server_test

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mirror/internal/oci"
	"mirror/internal/upstream/upstreamtest"
)

// stored waits until the cache holds a blob completely.
func (h *harness) stored(d oci.Digest) {
	h.t.Helper()
	eventually(h.t, "fill is stored", func() bool { _, ok := h.cache.Stat(d); return ok })
}

func TestBlobColdAndWarm(t *testing.T) {
	h := newHarness(t)
	f := func(size int, warmSources string) {
		t.Helper()
		content := pattern(size)
		d := h.hub.AddBlob("org/app", content)
		for _, want := range []struct{ cache, sources string }{{"MISS", "upstream"}, {"HIT", warmSources}} {
			a := h.get(blobPath("org/app", d)).want(t, 200)
			a.wantBody(t, content)
			a.wantHeader(t, "X-Cache", want.cache)
			if source := a.Header.Get("X-Cache-Source"); source == "" || !strings.Contains(want.sources, source) {
				t.Errorf("got X-Cache-Source %q, want %s", source, want.sources)
			}
			a.wantHeader(t, "Docker-Content-Digest", d.String())
			a.wantHeader(t, "ETag", `"`+d.String()+`"`)
			a.wantHeader(t, "Content-Length", strconv.Itoa(size))
			a.wantHeader(t, "Accept-Ranges", "bytes")
			a.wantHeader(t, "Content-Type", "application/octet-stream")
			a.wantHeader(t, "OCI-Namespace", "")
			h.stored(d)
		}
		if got := h.hub.Sent(d); got != int64(size) {
			t.Errorf("upstream sent %d bytes for a blob of %d", got, size)
		}
	}
	f(3<<20, "disk")
	f(1000, "memory or disk")
	f(1, "memory or disk")
	f(0, "memory or disk")
}

func TestBlobUnderSHA512(t *testing.T) {
	h := newHarness(t)
	content := pattern(5000)
	d := oci.DigestOf(oci.SHA512, content)
	h.hub.AddBlobUnder("org/app", d, content)
	for range 2 {
		a := h.get(blobPath("org/app", d)).want(t, 200)
		a.wantBody(t, content)
		a.wantHeader(t, "Docker-Content-Digest", d.String())
	}
}

// TestHeadHasTheHeadersOfGet compares the header blocks byte for byte, and checks that a HEAD of a cold blob downloads
// nothing.
func TestHeadHasTheHeadersOfGet(t *testing.T) {
	h := newHarness(t)
	image := h.hub.AddImage("org/app", "1", 2<<20, 10)
	h.hub.AddReferrer("org/app", image.Descriptor(), "application/x")
	for _, target := range []string{
		blobPath("org/app", image.Layers[0].Digest), blobPath("org/app", image.Layers[1].Digest), blobPath("org/app", image.Config.Digest),
		manifestPath("org/app", "1"), manifestPath("org/app", image.Digest.String()), manifestPath("docker.io/org/app", "1"),
		"/v2/org/app/tags/list", "/v2/org/app/referrers/" + image.Digest.String(), "/v2/",
	} {
		h.get(target).want(t, 200)
		if strings.Contains(target, "/blobs/") {
			h.stored(oci.MustParseDigest(target[strings.LastIndex(target, "/")+1:]))
		}
		// Between two requests content may move from disk to memory, once.
		eventually(t, "GET and HEAD of "+target+" have the same headers", func() bool {
			return h.rawHeaders("GET", target) == h.rawHeaders("HEAD", target)
		})
	}
	cold := h.hub.AddBlob("org/app", pattern(70000))
	head := h.head(blobPath("org/app", cold)).want(t, 200)
	head.wantHeader(t, "Content-Length", "70000")
	head.wantHeader(t, "X-Cache", "MISS")
	if got := h.hub.Count(upstreamtest.Blob, "HEAD"); got != 1 || h.hub.Sent(cold) != 0 {
		t.Errorf("HEAD of a cold blob: %d upstream HEADs and %d bytes, want 1 and 0", got, h.hub.Sent(cold))
	}
}

// rawHeaders returns the header block as it came over the wire.
func (h *harness) rawHeaders(method, target string) string {
	h.t.Helper()
	c := h.dial()
	defer c.Close()
	c.send(request(method, target, "X-Request-Id: same", "Range: bytes=x"))
	var block strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			h.t.Fatal(err)
		}
		if line == "\r\n" {
			return block.String()
		}
		block.WriteString(line)
	}
}

// TestRanges is the table of the protocol reference, on a blob of 2048 bytes that is in memory, one that is on disk, and
// one that is still arriving.
func TestRanges(t *testing.T) {
	onDisk := newHarnessWith(t, options{memory: 1})
	inMemory := newHarness(t)
	for name, h := range map[string]*harness{"memory": inMemory, "disk": onDisk} {
		t.Run(name, func(t *testing.T) { testRanges(t, h) })
	}
}

func testRanges(t *testing.T, h *harness) {
	content := pattern(2048)
	d := h.hub.AddBlob("org/app", content)
	target := blobPath("org/app", d)
	partial := func(header, contentRange string, want []byte) {
		t.Helper()
		for range 2 {
			a := h.get(target, "Range: "+header).want(t, 206)
			a.wantHeader(t, "Content-Range", contentRange)
			a.wantHeader(t, "Content-Length", strconv.Itoa(len(want)))
			a.wantHeader(t, "Docker-Content-Digest", d.String())
			a.wantHeader(t, "Content-Type", "application/octet-stream")
			a.wantBody(t, want)
		}
	}
	partial("bytes=500-1499", "bytes 500-1499/2048", content[500:1500])
	partial("bytes=500-", "bytes 500-2047/2048", content[500:])
	partial("bytes=-500", "bytes 1548-2047/2048", content[1548:])
	partial("bytes=2000-5000", "bytes 2000-2047/2048", content[2000:])
	partial("bytes=0-0", "bytes 0-0/2048", content[:1])
	partial("bytes=-9999", "bytes 0-2047/2048", content)
	partial("bytes=0-", "bytes 0-2047/2048", content)

	refused := func(header string, status int) {
		t.Helper()
		a := h.get(target, "Range: "+header).want(t, status)
		checkErrorBody(t, a, "UNSUPPORTED")
		if status == 416 {
			a.wantHeader(t, "Content-Range", "bytes */2048")
		}
		a.wantHeader(t, "ETag", "")
	}
	refused("bytes=500-0", 416)
	refused("bytes=5000-10000", 416)
	refused("bytes=2048-", 416)
	refused("bytes=-0", 416)
	refused("bytes="+strings.Repeat("0-0,", 1025), 400)

	whole := func(headers ...string) {
		t.Helper()
		a := h.get(target, headers...).want(t, 200)
		a.wantBody(t, content)
		a.wantHeader(t, "Content-Range", "")
	}
	whole("Range: items=0-1")
	whole("Range: bytes=abc")
	whole("Range: bytes=")
	whole("Range: bytes=0-1,5000-6000")
	whole("Range: bytes=0-2047,0-0")
	whole("Range: bytes=0-1", "Range: bytes=2-3")
	whole("Range: bytes=0-1", `If-Range: "`+digestA+`"`)
	whole("Range: bytes=0-1", `If-Range: W/"`+d.String()+`"`)
	whole("Range: bytes=0-1", "If-Range: Sat, 21 Nov 2026 08:00:00 GMT")
	a := h.get(target, "Range: bytes=0-1", `If-Range: "`+d.String()+`"`).want(t, 206)
	a.wantBody(t, content[:2])
	h.head(target, "Range: bytes=0-1").want(t, 200).wantHeader(t, "Content-Length", "2048")

	empty := h.hub.AddBlob("org/app", nil)
	h.get(blobPath("org/app", empty), "Range: bytes=0-0").want(t, 200).wantBody(t, nil)
	testMultipart(t, h, target, content)
}

func testMultipart(t *testing.T, h *harness, target string, content []byte) {
	t.Helper()
	a := h.get(target, "Range: bytes=1000-1099,0-9, -1").want(t, 206)
	if a.err != nil || strconv.Itoa(len(a.body)) != a.Header.Get("Content-Length") {
		t.Fatalf("got %d bytes (%v), announced %s", len(a.body), a.err, a.Header.Get("Content-Length"))
	}
	kind, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" {
		t.Fatalf("got type %q (%v)", a.Header.Get("Content-Type"), err)
	}
	parts := multipart.NewReader(bytes.NewReader(a.body), params["boundary"])
	for _, want := range []struct{ off, n int }{{1000, 100}, {0, 10}, {2047, 1}} {
		part, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(part)
		if err != nil || !bytes.Equal(body, content[want.off:want.off+want.n]) {
			t.Errorf("part at %d: got %d bytes (%v)", want.off, len(body), err)
		}
		if got := part.Header.Get("Content-Range"); got != fmt.Sprintf("bytes %d-%d/2048", want.off, want.off+want.n-1) {
			t.Errorf("part at %d: got %q", want.off, got)
		}
	}
	if _, err := parts.NextRawPart(); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
}

// TestRangesOfArrivingBlob asks for head, middle, tail and several parts of a blob that nobody has asked for before.
func TestRangesOfArrivingBlob(t *testing.T) {
	content := pattern(8 << 20)
	size := len(content)
	for _, r := range []struct {
		header   string
		off, end int
	}{
		{"bytes=0-99", 0, 100}, {"bytes=4000000-4000099", 4000000, 4000100}, {"bytes=-100", size - 100, size}, {"bytes=8000000-", 8000000, size},
	} {
		h := newHarness(t)
		d := h.hub.AddBlob("org/app", content)
		a := h.get(blobPath("org/app", d), "Range: "+r.header).want(t, 206)
		a.wantBody(t, content[r.off:r.end])
		a.wantHeader(t, "Content-Range", fmt.Sprintf("bytes %d-%d/%d", r.off, r.end-1, size))
		h.stored(d)
	}
	h := newHarness(t)
	d := h.hub.AddBlob("org/app", content)
	a := h.get(blobPath("org/app", d), "Range: bytes=7000000-7000009,0-9").want(t, 206)
	if a.err != nil || !bytes.Contains(a.body, content[7000000:7000010]) {
		t.Errorf("parts of an arriving blob: %d bytes (%v)", len(a.body), a.err)
	}
	h.stored(d)
}

func TestBlobConditions(t *testing.T) {
	h := newHarness(t)
	d := h.hub.AddBlob("org/app", pattern(100))
	target := blobPath("org/app", d)
	for _, tag := range []string{`"` + d.String() + `"`, `W/"` + d.String() + `"`, d.String(), "*", `"x", "` + d.String() + `"`} {
		a := h.get(target, "If-None-Match: "+tag).want(t, 304)
		a.wantHeader(t, "ETag", `"`+d.String()+`"`)
		a.wantHeader(t, "Docker-Content-Digest", d.String())
		if len(a.body) != 0 {
			t.Errorf("%s: body %q", tag, a.body)
		}
		h.head(target, "If-None-Match: "+tag).want(t, 304)
	}
	if h.hub.Sent(d) != 0 {
		t.Error("a client that has the blob caused a download")
	}
	h.get(target, `If-None-Match: "`+digestA+`"`).want(t, 200)
	// What does not exist is not unmodified.
	h.get(blobPath("org/app", oci.MustParseDigest(digestA)), "If-None-Match: *").want(t, 404)
}

// TestBlobOfUnknownLength is streamed in chunks where the protocol has them. Its parts can be had once it is complete.
func TestBlobOfUnknownLength(t *testing.T) {
	h := newHarness(t)
	content := pattern(6 << 20)
	d := h.hub.AddBlob("org/app", content)
	target := blobPath("org/app", d)
	h.hub.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{NoLength: true, NoRange: true, StallAfter: 5 << 20})
	c := h.dial()
	c.send(request("GET", target, "Range: bytes=10-19"))
	response, err := http.ReadResponse(c.in, nil)
	if err != nil || response.StatusCode != 200 || !slices.Equal(response.TransferEncoding, []string{"chunked"}) {
		t.Fatalf("got %v, %v; want the whole blob in chunks", response, err)
	}
	_ = c.Close()
	checkErrorBody(t, h.raw("GET", "GET "+target+" HTTP/1.0\r\n\r\n").want(t, 502), "UNAVAILABLE")

	h.restart()
	h.hub.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{NoLength: true, NoRange: true})
	eventually(t, "the blob is complete", func() bool {
		a := h.get(target)
		return a.StatusCode == 200 && a.err == nil && bytes.Equal(a.body, content)
	})
	h.stored(d)
	h.get(target, "Range: bytes=10-19").want(t, 206).wantBody(t, content[10:20])
}

// TestFailedContentEndsShort checks the one form of failure after the headers: fewer bytes than announced, and an
// orderly end, never a reset and never a complete wrong body.
func TestFailedContentEndsShort(t *testing.T) {
	for name, fault := range map[string]upstreamtest.Fault{
		"wrong byte in the last block": {Flip: []int64{6<<20 - 1}},
		"wrong byte in the middle":     {Flip: []int64{3 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			content := pattern(6 << 20)
			d := h.hub.AddBlob("org/app", content)
			h.hub.Fail(upstreamtest.Blob, -1, fault)
			c := h.dial()
			c.send(request("GET", blobPath("org/app", d)))
			a := c.read("GET").want(t, 200)
			if a.err != io.ErrUnexpectedEOF || len(a.body) >= len(content) {
				t.Errorf("got %d of %d bytes, %v; want a short body", len(a.body), len(content), a.err)
			}
			if _, err := c.in.ReadByte(); err != io.EOF {
				t.Errorf("the connection ended with %v, want an orderly end", err)
			}
			if _, ok := h.cache.Stat(d); ok {
				t.Error("wrong content is in the cache")
			}
			eventually(t, "the failure is logged and counted", func() bool {
				return len(h.logs.lines(`"level":"WARN"`, d.String())) == 1 && h.metric("mirror_bodies_cut_total", "by=content") == 1
			})
			h.hub.Heal()
			eventually(t, "the repaired upstream is asked again", func() bool {
				a := h.get(blobPath("org/app", d))
				return a.StatusCode == 200 && a.err == nil && bytes.Equal(a.body, content)
			})
			h.stored(d)
		})
	}
}

// TestHeadersComeBeforeTheBody checks that a client does not wait for bytes to learn that there will be some.
func TestHeadersComeBeforeTheBody(t *testing.T) {
	h := newHarness(t)
	content := pattern(8 << 20)
	d := h.hub.AddBlob("org/app", content)
	h.hub.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{StallAfter: 1000})
	c := h.dial()
	c.send(request("GET", blobPath("org/app", d)))
	if line, err := c.in.ReadString('\n'); err != nil || line != "HTTP/1.1 200 OK\r\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if h.metric("mirror_requests_total", "kind=blob", "code=200") != 1 {
		t.Error("the request is not counted when its headers are out")
	}
	_ = c.Close()
	h.restart()
	h.get(blobPath("org/app", d)).want(t, 200).wantBody(t, content)
	h.stored(d)
}

// TestVanishingClients checks that clients that leave early change nothing for those that stay.
func TestVanishingClients(t *testing.T) {
	h := newHarness(t)
	content := pattern(8 << 20)
	stayer, resume := h.transfer(content)
	target := blobPath("org/app", oci.DigestOf(oci.SHA256, content))
	for range 5 {
		c := h.dial()
		c.send(request("GET", target))
		if _, err := c.in.ReadByte(); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	}
	resume()
	stayer.read("GET").want(t, 200).wantBody(t, content)
	eventually(t, "those who left are counted", func() bool { return h.metric("mirror_bodies_cut_total", "by=client") == 5 })
	eventually(t, "their connections are gone", func() bool { return h.metric("mirror_connections") == 1 })
	if got := len(h.logs.lines(`"level":"WARN"`)) + len(h.logs.lines(`"level":"ERROR"`)); got != 0 {
		t.Errorf("clients that left caused %d warnings: %v", got, h.logs.lines("level"))
	}
}

// TestSlowClient reads a large body through a window so small that the server has to wait for it again and again.
func TestSlowClient(t *testing.T) {
	h := newHarness(t)
	content := pattern(4 << 20)
	d := h.hub.AddBlob("org/app", content)
	h.get(blobPath("org/app", d)).want(t, 200)
	h.stored(d)
	c := h.dial()
	if err := c.Conn.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	c.send(request("GET", blobPath("org/app", d)))
	c.read("GET").want(t, 200).wantBody(t, content)
}

// TestKeptConnection sends several requests over one connection, one after the other and several at once.
func TestKeptConnection(t *testing.T) {
	h := newHarness(t)
	content := pattern(100000)
	d := h.hub.AddBlob("org/app", content)
	c := h.dial()
	for range 3 {
		c.send(request("GET", blobPath("org/app", d)))
		c.read("GET").want(t, 200).wantBody(t, content)
	}
	one := request("GET", blobPath("org/app", d), "Range: bytes=5-9")
	c.send(one + request("HEAD", blobPath("org/app", d)) + one + request("GET", "/v2/"))
	c.read("GET").want(t, 206).wantBody(t, content[5:10])
	c.read("HEAD").want(t, 200).wantBody(t, nil)
	c.read("GET").want(t, 206).wantBody(t, content[5:10])
	c.read("GET").want(t, 200).wantBody(t, []byte("{}"))
	if got := h.metric("mirror_connections"); got != 1 {
		t.Errorf("got %v connections, want 1", got)
	}
}
