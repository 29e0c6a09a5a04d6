package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// registry serves one image of one layer over a link.
type registry struct {
	link           *link
	layer          []byte
	digest         string
	manifest       string
	manifestDigest string
	sent           atomic.Int64 // bytes of the layer
	requests       atomic.Int64 // for the layer
	address        string
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

// newRegistry makes the layer, of bytes that nothing compresses, and listens on loopback.
func newRegistry(size int64, l *link) (*registry, error) {
	r := &registry{link: l, layer: make([]byte, size)}
	block := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(block) // it never fails
	for off := 0; off < len(r.layer); off += len(block) {
		binary.LittleEndian.PutUint64(block, uint64(off))
		copy(r.layer[off:], block)
	}
	r.digest = fmt.Sprintf("sha256:%x", sha256.Sum256(r.layer))
	empty := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("{}")))
	r.manifest = fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,`+
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`, manifestType, empty, r.digest, size)
	r.manifestDigest = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(r.manifest)))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r.address = listener.Addr().String()
	server := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(256 << 10) // what waits in the kernel would count as sent
		return withPace(ctx)
	}}
	go func() { _ = server.Serve(listener) }() // until the process ends
	return r, nil
}

// ServeHTTP answers as a registry does.
func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	time.Sleep(r.link.latency)
	switch {
	case strings.HasSuffix(req.URL.Path, "/blobs/"+r.digest):
		r.serveLayer(w, req)
	case strings.Contains(req.URL.Path, "/manifests/"):
		w.Header().Set("Content-Type", manifestType)
		w.Header().Set("Docker-Content-Digest", r.manifestDigest)
		w.Header().Set("Content-Length", strconv.Itoa(len(r.manifest)))
		_, _ = w.Write([]byte(r.manifest)) // a client that is gone is its own trouble
	case req.URL.Path == "/v2/":
	default:
		http.NotFound(w, req)
	}
}

func (r *registry) serveLayer(w http.ResponseWriter, req *http.Request) {
	content, status := r.layer, http.StatusOK
	if first, last, ok := parseRange(req.Header.Get("Range"), len(r.layer)); ok {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(r.layer)))
		content, status = r.layer[first:last+1], http.StatusPartialContent
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", r.digest)
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(status)
	if req.Method == http.MethodHead {
		return
	}
	r.requests.Add(1)
	r.link.send(w, req, content, &r.sent)
}

// parseRange reads "bytes=a-b" and "bytes=a-".
func parseRange(header string, size int) (first, last int, ok bool) {
	a, b, found := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	first, err := strconv.Atoi(a)
	if !found || err != nil || first >= size {
		return 0, 0, false
	}
	if last, err = strconv.Atoi(b); err != nil || last >= size {
		last = size - 1
	}
	return first, last, true
}
