package origin

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Registry serves the images in a directory. Its counters and its behaviour may change at any time.
type Registry struct {
	dir    string
	server *http.Server
	ln     net.Listener

	requests, blobRequests, sent atomic.Int64

	mu     sync.Mutex // guards what follows
	link   Link
	faults Faults
	whole  *pace
}

// Counts are what a registry was asked for.
type Counts struct {
	Requests     int64 // of every kind
	BlobRequests int64 // GET of a blob, or of a part of one
	Sent         int64 // bytes of blobs
}

// Serve serves the images in dir on a port of loopback until Close.
func Serve(dir string, link Link) (*Registry, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Registry{dir: dir, ln: ln, link: link, whole: new(pace)}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute, ConnContext: withPace}
	go func() { _ = r.server.Serve(ln) }() // it ends with Close, and with nothing to tell
	return r, nil
}

// Address is where it listens, host and port.
func (r *Registry) Address() string { return r.ln.Addr().String() }

// Close stops serving and cuts what is under way.
func (r *Registry) Close() error { return r.server.Close() }

// Shape changes the link and the faults of what is asked from now on, and sets the counts to zero.
func (r *Registry) Shape(link Link, faults Faults) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.link, r.faults, r.whole = link, faults, new(pace)
	r.requests.Store(0)
	r.blobRequests.Store(0)
	r.sent.Store(0)
}

// Counts returns what it was asked for since the last Shape.
func (r *Registry) Counts() Counts {
	return Counts{r.requests.Load(), r.blobRequests.Load(), r.sent.Load()}
}

func (r *Registry) shape() (Link, Faults, *pace) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.link, r.faults, r.whole
}

// ServeHTTP answers as a registry does.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	link, faults, whole := r.shape()
	number := r.requests.Add(1)
	time.Sleep(link.Latency)
	if req.URL.Path == "/v2/" {
		return
	}
	if faults.refuses(number) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "refused on purpose", http.StatusServiceUnavailable)
		return
	}
	file, size, err := r.open(req.URL.Path)
	if err != nil {
		http.NotFound(w, req)
		return
	}
	defer file.Close()
	s := sender{link: link, faults: faults, whole: whole, own: paceOf(req.Context()), sent: &r.sent}
	if isManifest(req.URL.Path) {
		r.serveManifest(w, req, file, size)
		return
	}
	r.serveBlob(w, req, file, size, s)
}

// open opens the file of a path below /v2/.
func (r *Registry) open(name string) (*os.File, int64, error) {
	if path.Clean(name) != name || !strings.HasPrefix(name, "/v2/") {
		return nil, 0, os.ErrNotExist
	}
	file, err := os.Open(filepath.Join(r.dir, name))
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = os.ErrNotExist
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, file *os.File, size int64) {
	text, err := io.ReadAll(file)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", ManifestType)
	w.Header().Set("Docker-Content-Digest", digestOf(text))
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if req.Method != http.MethodHead {
		_, _ = w.Write(text) // a client that is gone is its own trouble
	}
}

func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request, file *os.File, size int64, s sender) {
	first, last, status := int64(0), size-1, http.StatusOK
	if a, b, ok := parseRange(req.Header.Get("Range"), size); ok {
		first, last, status = a, b, http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", path.Base(req.URL.Path))
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Content-Length", strconv.FormatInt(last+1-first, 10))
	w.WriteHeader(status)
	if req.Method == http.MethodHead {
		return
	}
	number := r.blobRequests.Add(1)
	if _, err := file.Seek(first, io.SeekStart); err != nil {
		return // the client sees a short body
	}
	s.send(w, file, last+1-first, number)
}

// parseRange reads "bytes=a-b" and "bytes=a-".
func parseRange(header string, size int64) (first, last int64, ok bool) {
	a, b, found := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	first, err := strconv.ParseInt(a, 10, 64)
	if !found || err != nil || first < 0 || first >= size {
		return 0, 0, false
	}
	if last, err = strconv.ParseInt(b, 10, 64); err != nil || last >= size {
		last = size - 1
	}
	return first, last, last >= first
}
