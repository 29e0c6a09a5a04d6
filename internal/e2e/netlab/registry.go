//go:build linux

package netlab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	registryName = "registry.test"
	repository   = "app"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	// sendBuffer is small, because what waits in the kernel would count as sent.
	sendBuffer = 128 << 10
	sendStep   = 32 << 10
)

// Layer is a layer of the image that a tag of the registry names.
type Layer struct {
	Digest, Tag string
	Size        int64
}

// Counts are what the registry has answered since the last Reset.
type Counts struct {
	Bytes     int64 // of blobs
	Blobs     int   // GET requests for blobs
	Heads     int   // HEAD requests for manifests
	Manifests int   // GET requests for manifests
	Refused   int   // requests that were refused on purpose
}

// Registry is the registry of a lab.
type Registry struct {
	latency time.Duration
	each    int64 // bytes per second and connection
	all     pace

	mu        sync.Mutex
	blobs     map[string][]byte
	manifests map[string][]byte // by digest
	tags      map[string]string // to digests
	counts    Counts
	refusal   int  // a status for every request for a blob, or zero
	noRanges  bool // a range is ignored
	server    *http.Server
}

type connection struct{}

func newRegistry(link Link) *Registry {
	return &Registry{
		latency: link.Latency, each: link.EachConnection / 8, all: pace{bytesPerSecond: link.Rate / 8},
		blobs: map[string][]byte{}, manifests: map[string][]byte{}, tags: map[string]string{},
	}
}

// Start lets the registry answer. A lab does that itself at first.
func (r *Registry) Start() error {
	var ln net.Listener
	err := upstream.inside(func() (err error) {
		ln, err = net.Listen("tcp", upstreamAddress)
		return err
	})
	if err != nil {
		return fmt.Errorf("start the registry: %w", err)
	}
	server := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute, ConnContext: r.connected}
	r.mu.Lock()
	r.server = server
	r.mu.Unlock()
	go func() { _ = server.Serve(ln) }() // until Stop, and every test would notice
	return nil
}

// connected gives each connection a pace of its own.
func (r *Registry) connected(ctx context.Context, c net.Conn) context.Context {
	_ = c.(*net.TCPConn).SetWriteBuffer(sendBuffer) // counts are less exact without
	return context.WithValue(ctx, connection{}, &pace{bytesPerSecond: r.each})
}

// Stop switches the registry off: connections are cut, and new ones refused.
func (r *Registry) Stop() error {
	r.mu.Lock()
	server := r.server
	r.server = nil
	r.mu.Unlock()
	if server == nil {
		return nil
	}
	if err := server.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("stop the registry: %w", err)
	}
	return nil
}

// AddLayer lets a tag name an image with one layer of random bytes, other ones for each seed.
func (r *Registry) AddLayer(tag string, size int64, seed uint64) Layer {
	content := make([]byte, size)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(key).Read(content) // it never fails
	digest, empty := digestOf(content), digestOf([]byte("{}"))
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,`+
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`, manifestType, empty, digest, size)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs[digest], r.blobs[empty] = content, []byte("{}")
	r.manifests[digestOf(manifest)] = manifest
	r.tags[tag] = digestOf(manifest)
	return Layer{Digest: digest, Tag: tag, Size: size}
}

func digestOf(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }

// Move lets a tag name what another one names.
func (r *Registry) Move(tag, other string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tags[tag] = r.tags[other]
}

// ManifestOf returns the digest that a tag names.
func (r *Registry) ManifestOf(tag string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tags[tag]
}

// Refuse answers every request for a blob with a status; zero ends that.
func (r *Registry) Refuse(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusal = status
}

// WithoutRanges makes the registry answer each request for a blob with all of it.
func (r *Registry) WithoutRanges(without bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noRanges = without
}

// Counts returns what was answered.
func (r *Registry) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

// Reset makes all counts zero.
func (r *Registry) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts = Counts{}
}

// ServeHTTP answers as a registry does.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	time.Sleep(r.latency)
	_, manifest, isManifest := strings.Cut(req.URL.Path, "/manifests/")
	_, blob, isBlob := strings.Cut(req.URL.Path, "/blobs/")
	switch {
	case isManifest:
		r.serveManifest(w, req, manifest)
	case isBlob:
		r.serveBlob(w, req, blob)
	case req.URL.Path == "/v2/":
	default:
		http.NotFound(w, req)
	}
}

func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, reference string) {
	r.mu.Lock()
	if req.Method == http.MethodHead {
		r.counts.Heads++
	} else {
		r.counts.Manifests++
	}
	if digest, isTag := r.tags[reference]; isTag {
		reference = digest
	}
	body, known := r.manifests[reference]
	r.mu.Unlock()
	if !known {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", manifestType)
	w.Header().Set("Docker-Content-Digest", reference)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that is gone is its own trouble
}

func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request, digest string) {
	r.mu.Lock()
	content, known := r.blobs[digest]
	refusal, ranges := r.refusal, !r.noRanges
	if refusal != 0 {
		r.counts.Refused++
	} else if req.Method == http.MethodGet {
		r.counts.Blobs++
	}
	r.mu.Unlock()
	switch {
	case refusal != 0:
		w.WriteHeader(refusal)
	case !known:
		http.NotFound(w, req)
	default:
		r.sendBlob(w, req, content, ranges)
	}
}

func (r *Registry) sendBlob(w http.ResponseWriter, req *http.Request, content []byte, ranges bool) {
	status, size := http.StatusOK, len(content)
	if first, last, ok := parseRange(req.Header.Get("Range"), size); ok && ranges {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
		content, status = content[first:last+1], http.StatusPartialContent
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(status)
	if req.Method == http.MethodGet {
		r.send(w, req, content)
	}
}

// send writes content at the rates of the link.
func (r *Registry) send(w http.ResponseWriter, req *http.Request, content []byte) {
	own, _ := req.Context().Value(connection{}).(*pace)
	for len(content) > 0 {
		n, err := w.Write(content[:min(sendStep, len(content))])
		r.mu.Lock()
		r.counts.Bytes += int64(n)
		r.mu.Unlock()
		if err != nil {
			return
		}
		content = content[n:]
		until := own.book(n)
		if all := r.all.book(n); all.After(until) {
			until = all
		}
		time.Sleep(time.Until(until))
	}
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
