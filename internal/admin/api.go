package admin

import (
	"errors"
	"log/slog"
	"net"
	"net/http"

	"mirror/internal/mirror"
	"mirror/internal/oci"
)

// api answers what is below /api/v1/: what a running mirror holds and does, and the changes that operators ask for.
type api struct {
	parts Parts
	log   *slog.Logger
}

// route is one entry of the API. The pattern is net/http's; docs/api.md has a section for each.
type route struct {
	pattern string
	answer  func(*api, *mirror.Mirror, http.ResponseWriter, *http.Request) error
}

func routesOfAPI() []route {
	return []route{
		{"GET /api/v1/status", (*api).status},
		{"GET /api/v1/tags", (*api).tags},
		{"GET /api/v1/blobs", (*api).blobs},
		{"DELETE /api/v1/tags/{reference...}", (*api).removeTag},
		{"DELETE /api/v1/blobs/{reference...}", (*api).removeBlob},
		{"DELETE /api/v1/repositories/{repository...}", (*api).removeRepository},
		{"PUT /api/v1/pins", (*api).pin},
		{"DELETE /api/v1/pins", (*api).unpin},
	}
}

func (a *api) register(mux *http.ServeMux) {
	for _, r := range routesOfAPI() {
		mux.Handle(r.pattern, withoutPages(a.handler(r)))
	}
}

// withoutPages refuses changes that a browser asks for. There is no login that would stop a page, and to compare its origin
// with our address is not enough: a page whose host name begins to resolve to us has the same origin (DNS rebinding). We
// serve no pages, so none is right. Browsers send these headers with all that changes something, other programs do not.
func withoutPages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		browser := r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
		if browser && r.Method != http.MethodGet && r.Method != http.MethodHead {
			respond(w, http.StatusForbidden, Problem{
				Error: "a web page may not change anything here",
				Hint:  "use the mirror command or another program that is no browser",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// handler answers one route while there is a mirror, and turns errors into answers.
func (a *api) handler(r route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		var m *mirror.Mirror
		if a.parts.Mirror != nil {
			m = a.parts.Mirror()
		}
		if m == nil {
			respond(w, http.StatusServiceUnavailable, Problem{Error: "the mirror is starting or stopping", Hint: "GET /readyz tells when it serves"})
			return
		}
		if err := r.answer(a, m, w, request); err != nil {
			a.refuse(w, request, err)
		}
	})
}

// refuse answers with an error. What is not the client's doing is logged as well, because the operator of the client may
// not be that of the mirror.
func (a *api) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	p := Problem{Error: err.Error()}
	if malformed, ok := errors.AsType[*oci.Error](err); ok {
		p.Error = malformed.Message
	}
	if status == http.StatusInternalServerError {
		p.Hint = "the data directory may be full or failing: see the log of the mirror"
		a.log.Error(hostOf(r)+" asked for what could not be done", "error", err)
	}
	respond(w, status, p)
}

func statusOf(err error) int {
	_, malformed := errors.AsType[*oci.Error](err)
	_, wrong := errors.AsType[badRequest](err)
	switch {
	case malformed, wrong:
		return http.StatusBadRequest
	case errors.Is(err, mirror.ErrNotHeld):
		return http.StatusNotFound
	case errors.Is(err, mirror.ErrPinned), errors.Is(err, mirror.ErrNotPinned):
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

// hostOf is who asked, without the port, which says nothing a day later.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
