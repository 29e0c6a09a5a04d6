package upstreamtest

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"mirror/internal/oci"
)

// Kind says what a request is for.
type Kind string

// The kinds of requests. CDN is a request to the second server that UseCDN starts.
const (
	Manifest  Kind = "manifest"
	Blob      Kind = "blob"
	Tags      Kind = "tags"
	Referrers Kind = "referrers"
	Ping      Kind = "ping"
	Token     Kind = "token"
	CDN       Kind = "cdn"
	Other     Kind = "other"
)

// Request is one request that the registry or its CDN has received.
type Request struct {
	Kind   Kind
	Method string
	Path   string
	Query  string
	Host   string
	Header http.Header
	Time   time.Time
}

// Registry is a running test registry.
type Registry struct {
	// URL is the base URL, "http://127.0.0.1:<port>". It stays the same over Stop and Start.
	URL string
	// Host is the host and port of URL.
	Host string

	t      testing.TB
	server *server
	cdn    *server

	mu           sync.Mutex // guards everything below
	repositories map[string]*repository
	requests     []Request
	sent         map[oci.Digest]int64
	hook         func(*http.Request) *Fault
	scripted     []*scriptedFault
	cut          cuts
	broken       map[oci.Digest][]broken
	lost         map[oci.Digest]int64
	auth         auth
	aside        map[string]http.Handler
	useCDN       bool
	noReferrers  bool
	pageSize     int
}

// New starts a registry that is empty and open. It ends with the test.
func New(t testing.TB) *Registry {
	t.Helper()
	r := &Registry{t: t, repositories: map[string]*repository{}, broken: map[oci.Digest][]broken{}}
	r.Reset()
	r.auth.tokens = map[string]issuedToken{}
	r.server = startServer(t, http.HandlerFunc(r.serve))
	r.URL, r.Host = "http://"+r.server.address, r.server.address
	return r
}

// Stop takes the registry off the network: connections are cut and new ones refused. Its content stays.
func (r *Registry) Stop() { r.server.stop() }

// Start brings the registry back under the same address.
func (r *Registry) Start() { r.server.start(r.t) }

// UseCDN makes the registry answer every GET and HEAD of a blob with a redirect to a second server under another
// address, which serves the bytes. It returns that server's base URL.
func (r *Registry) UseCDN() string {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cdn == nil {
		r.cdn = startServer(r.t, http.HandlerFunc(r.serve))
	}
	r.useCDN = true
	return "http://" + r.cdn.address
}

// Handle lets a handler answer one path beside those of a registry. Its requests are recorded as the others.
func (r *Registry) Handle(path string, handler http.Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.aside == nil {
		r.aside = map[string]http.Handler{}
	}
	r.aside[path] = handler
}

// DisableReferrers makes the registry answer the referrers API with 404, as registries do that lack it.
func (r *Registry) DisableReferrers() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noReferrers = true
}

// SetPageSize bounds the pages of tags and referrers; zero means no bound.
func (r *Registry) SetPageSize(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pageSize = n
}

// Requests returns everything that was asked since the start or Reset, in the order of arrival.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Request(nil), r.requests...)
}

// Count returns how many requests of a kind there were; an empty method counts all methods.
func (r *Registry) Count(kind Kind, method string) int {
	n := 0
	for _, request := range r.Requests() {
		if request.Kind == kind && (method == "" || request.Method == method) {
			n++
		}
	}
	return n
}

// Sent returns how many body bytes of a blob or manifest were sent, all requests together, the CDN's included.
func (r *Registry) Sent(d oci.Digest) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[d]
}

// Reset forgets requests and counts. Content, faults and authentication stay.
func (r *Registry) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests, r.sent, r.lost = nil, map[oci.Digest]int64{}, map[oci.Digest]int64{}
}

// KindOf returns what a request is for; hooks use it.
func KindOf(req *http.Request) Kind {
	path := req.URL.Path
	switch {
	case path == "/v2/" || path == "/v2":
		return Ping
	case strings.HasPrefix(path, "/token"), path == "/oauth2/token":
		return Token
	case strings.HasPrefix(path, "/cdn/"):
		return CDN
	}
	_, kind, _ := splitPath(path)
	switch kind {
	case "manifests":
		return Manifest
	case "blobs":
		return Blob
	case "tags":
		return Tags
	case "referrers":
		return Referrers
	}
	return Other
}

// splitPath takes a path below /v2/ apart from the right, as names may contain any of the words.
func splitPath(path string) (name, kind, reference string) {
	parts := strings.Split(strings.TrimPrefix(path, "/v2/"), "/")
	if len(parts) < 3 {
		return "", "", ""
	}
	n := len(parts)
	return strings.Join(parts[:n-2], "/"), parts[n-2], parts[n-1]
}
