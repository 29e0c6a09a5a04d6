package upstreamtest

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mirror/internal/oci"
)

// serve answers one request, to the registry or to its CDN.
func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	r.record(req)
	fault := r.faultFor(req)
	if !wait(req, fault.Delay) {
		return
	}
	if fault.answers(w, req) {
		return
	}
	if handler := r.handlerFor(req); handler != nil {
		handler.ServeHTTP(w, req)
		return
	}
	kind := KindOf(req)
	if kind == Token {
		r.serveToken(w, req)
		return
	}
	if kind != CDN {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		if !r.admitted(w, req) {
			return
		}
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "this registry is for pulling")
		return
	}
	r.serveKind(w, req, kind, fault)
}

func (r *Registry) serveKind(w http.ResponseWriter, req *http.Request, kind Kind, fault Fault) {
	switch kind {
	case Ping:
		_, _ = w.Write([]byte("{}"))
	case Manifest:
		r.serveManifest(w, req, fault)
	case Blob, CDN:
		r.serveBlob(w, req, kind, fault)
	case Tags:
		r.serveTags(w, req)
	case Referrers:
		r.serveReferrers(w, req)
	default:
		writeError(w, http.StatusNotFound, "NAME_UNKNOWN", "no such path")
	}
}

func (r *Registry) handlerFor(req *http.Request) http.Handler {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.aside[req.URL.Path]
}

func (r *Registry) record(req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, Request{
		Kind: KindOf(req), Method: req.Method, Path: req.URL.Path, Query: req.URL.RawQuery, Host: req.Host,
		Header: req.Header.Clone(), Time: time.Now(),
	})
}

// wait lets time pass, and reports false when the client went away meanwhile.
func wait(req *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-req.Context().Done():
		return false
	}
}

// answers reports whether the fault takes the place of an answer, and has given it.
func (f Fault) answers(w http.ResponseWriter, req *http.Request) bool {
	for key, values := range f.Header {
		w.Header()[key] = values
	}
	switch {
	case f.Hang:
		<-req.Context().Done()
		panic(http.ErrAbortHandler)
	case f.Redirect != "":
		w.Header().Set("Location", f.Redirect)
		w.WriteHeader(http.StatusTemporaryRedirect)
	case f.Status != 0:
		w.WriteHeader(f.Status)
		_, _ = w.Write([]byte(f.Body))
	case f.HTML:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<html><body>Please log in to the network.</body></html>"))
	default:
		return false
	}
	return true
}

func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, fault Fault) {
	name, _, reference := splitPath(req.URL.Path)
	r.mu.Lock()
	repo := r.repositories[name]
	var found stored
	var d oci.Digest
	ok := false
	if repo != nil {
		if parsed, err := oci.ParseDigest(reference); err == nil {
			d = parsed
		} else {
			d = repo.tags[reference]
		}
		found, ok = repo.manifests[d]
	}
	r.mu.Unlock()
	switch {
	case repo == nil:
		writeError(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
	case !ok:
		writeError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
	default:
		r.deliver(w, req, delivery{content: found.body, mediaType: found.mediaType, digest: d, fault: fault})
	}
}

func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request, kind Kind, fault Fault) {
	name, _, reference := splitPath(req.URL.Path)
	if kind == CDN {
		name, reference = req.URL.Query().Get("repository"), strings.TrimPrefix(req.URL.Path, "/cdn/")
	}
	d, err := oci.ParseDigest(reference)
	r.mu.Lock()
	content, ok := []byte(nil), false
	if repo := r.repositories[name]; repo != nil && err == nil {
		content, ok = repo.blobs[d]
	}
	redirect := ""
	if ok && r.useCDN && kind == Blob {
		redirect = fmt.Sprintf("http://%s/cdn/%s?repository=%s&signature=secret", r.cdn.address, d, url.QueryEscape(name))
	}
	r.mu.Unlock()
	switch {
	case !ok:
		writeError(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
	case redirect != "":
		w.Header().Set("Location", redirect)
		w.WriteHeader(http.StatusTemporaryRedirect)
	default:
		r.deliver(w, req, delivery{content: content, mediaType: oci.MediaTypeOctetStream, digest: d, fault: fault, ranges: true})
	}
}

func (r *Registry) serveTags(w http.ResponseWriter, req *http.Request) {
	name, _, _ := splitPath(req.URL.Path)
	r.mu.Lock()
	repo, size := r.repositories[name], r.pageSize
	var tags []string
	if repo != nil {
		tags = repo.sortedTags()
	}
	r.mu.Unlock()
	if repo == nil {
		writeError(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	if last := req.URL.Query().Get("last"); last != "" {
		tags = slices.DeleteFunc(tags, func(tag string) bool { return tag <= last })
	}
	if n, err := strconv.Atoi(req.URL.Query().Get("n")); err == nil && (size == 0 || n < size) {
		size = n
	}
	if size > 0 && len(tags) > size {
		tags = tags[:size]
		w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?n=%d&last=%s>; rel="next"`, name, size, tags[size-1]))
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(marshal(map[string]any{"name": name, "tags": tags}))
}

func (r *Registry) serveReferrers(w http.ResponseWriter, req *http.Request) {
	name, _, reference := splitPath(req.URL.Path)
	d, err := oci.ParseDigest(reference)
	r.mu.Lock()
	off, size := r.noReferrers, r.pageSize
	found := []descriptorJSON{}
	if repo := r.repositories[name]; repo != nil && err == nil {
		found = repo.referrersOf(d)
	}
	r.mu.Unlock()
	if off {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "digest is malformed")
		return
	}
	at, _ := strconv.Atoi(req.URL.Query().Get("at"))
	found = found[min(max(at, 0), len(found)):]
	if size > 0 && len(found) > size {
		found = found[:size]
		w.Header().Set("Link", fmt.Sprintf(`<%s?at=%d>; rel="next"`, req.URL.Path, at+size))
	}
	w.Header().Set("Content-Type", oci.MediaTypeImageIndex)
	_, _ = w.Write(marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeImageIndex, "manifests": found}))
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
	_, _ = w.Write(b.Bytes())
}
