//go:build e2e

package e2e_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
)

// exchange is one request that crossed the gate and what was answered.
type exchange struct {
	method    string
	kind      string // manifests, blobs, tags, referrers or ping
	reference string // tag or digest
	header    http.Header
	status    atomic.Int64
	start     atomic.Int64 // offset of the first body byte in the content
	named     atomic.Pointer[string]
	bytes     atomic.Int64 // body bytes passed on
}

// span is a stretch of content, [start, end).
type span struct{ start, end int64 }

var registryPath = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs|tags|referrers)/([^/]+)$`)

// record notes a request before anything is done about it.
func (g *gate) record(r *http.Request) *exchange {
	x := &exchange{method: r.Method, kind: "ping", header: r.Header.Clone()}
	if m := registryPath.FindStringSubmatch(r.URL.Path); m != nil {
		x.kind, x.reference = m[2], m[3]
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen = append(g.seen, x)
	return x
}

// answered notes what the registry said: a tag's digest, and where in the content the body starts.
func (x *exchange) answered(res *http.Response) {
	digest := res.Header.Get("Docker-Content-Digest")
	x.named.Store(&digest)
	x.status.Store(int64(res.StatusCode))
	var start, end, total int64
	if _, err := fmt.Sscanf(res.Header.Get("Content-Range"), "bytes %d-%d/%d", &start, &end, &total); err == nil {
		x.start.Store(start)
	}
}

// digest names the content of the answer. Empty until there is one.
func (x *exchange) digest() string {
	if strings.Contains(x.reference, ":") {
		return x.reference
	}
	if named := x.named.Load(); named != nil {
		return *named
	}
	return ""
}

func (x *exchange) offset() int64 { return x.start.Load() + x.bytes.Load() }
func (x *exchange) add(n int)     { x.bytes.Add(int64(n)) }

// exchanges lists what crossed the gate, in order of arrival. An empty argument matches everything.
func (g *gate) exchanges(method, kind, digest string) []*exchange {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []*exchange
	for _, x := range g.seen {
		if (method == "" || x.method == method) && (kind == "" || x.kind == kind) && (digest == "" || x.digest() == digest) {
			out = append(out, x)
		}
	}
	return out
}

// blobBytes counts the blob bytes of one digest, or of all when it is empty.
func (g *gate) blobBytes(digest string) int64 {
	var n int64
	for _, x := range g.exchanges(http.MethodGet, "blobs", digest) {
		n += x.bytes.Load()
	}
	return n
}

// fetched lists which stretches of a blob were sent, in the order of their offsets.
func (g *gate) fetched(digest string) []span {
	var spans []span
	for _, x := range g.exchanges(http.MethodGet, "blobs", digest) {
		if n := x.bytes.Load(); n > 0 {
			spans = append(spans, span{x.start.Load(), x.start.Load() + n})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return int(a.start - b.start) })
	return spans
}

// repeated counts the bytes that sorted spans have in common with those before them.
func repeated(spans []span) int64 {
	var twice, end int64
	for _, s := range spans {
		twice += max(0, min(s.end, end)-s.start)
		end = max(end, s.end)
	}
	return twice
}
