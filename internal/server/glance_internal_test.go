package server

import (
	"bufio"
	"bytes"
	"net/http"
	"slices"
	"testing"
)

// FuzzGlance compares what quick answers understand of a request with what a proper reader does.
func FuzzGlance(f *testing.F) {
	for _, seed := range []string{
		"GET /v2/a/manifests/1 HTTP/1.1\r\nHost: a\r\n\r\n",
		"HEAD /v2/a/blobs/sha256:00?ns=docker.io HTTP/1.1\r\nhost: a:5000\r\nAccept: x/y\r\nAccept: */*;q=0\r\nX-Request-Id: 7\r\n\r\nGET / HTTP/1.1\r\n",
		"GET /v2/a/manifests/1 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nRange: bytes=0-1\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"GET /a HTTP/1.1\r\nHost : a\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var g glance
		length, ok := g.at(b)
		if !ok {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b[:length])))
		if err != nil {
			if bytes.ContainsRune(b[:length], '%') {
				return // escapes are judged later, by parseRoute
			}
			t.Fatalf("%q is no request: %v", b[:length], err)
		}
		if (r.Method == "HEAD") != g.head || r.Host != string(g.host) || r.ContentLength != 0 || r.Close {
			t.Errorf("%q: method %s, host %q, length %d, close %v; glance says %+v", b[:length], r.Method, r.Host, r.ContentLength, r.Close, g)
		}
		if target := r.RequestURI; target != string(g.path) && target != string(g.path)+"?"+string(g.query) {
			t.Errorf("%q: target %q, glance says %q and %q", b[:length], target, g.path, g.query)
		}
		var accept []string
		for _, value := range g.accept[:g.accepts] {
			accept = append(accept, string(value))
		}
		if !slices.Equal(r.Header.Values("Accept"), accept) || r.Header.Get("X-Request-Id") != string(g.requestID) {
			t.Errorf("%q: header %v, glance says %q and %q", b[:length], r.Header, accept, g.requestID)
		}
		var ranges []string
		if g.ranges != nil {
			ranges = []string{string(g.ranges)}
		}
		if !slices.Equal(r.Header.Values("Range"), ranges) {
			t.Errorf("%q: ranges %q, glance says %q", b[:length], r.Header.Values("Range"), ranges)
		}
		for _, name := range []string{"If-Range", "If-None-Match", "Via", "Transfer-Encoding", "Content-Length", "Expect", "Upgrade"} {
			if len(r.Header.Values(name)) > 0 {
				t.Errorf("%q has a %s, which changes the answer", b[:length], name)
			}
		}
	})
}
