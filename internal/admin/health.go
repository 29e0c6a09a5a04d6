package admin

import (
	"encoding/json"
	"net/http"
	"strings"
)

// live answers as long as the process can answer anything. It checks nothing else: a restart, which is what a failed
// check leads to, would not cure a full disk or an upstream that is down.
func live(w http.ResponseWriter, _ *http.Request) {
	respond(w, http.StatusOK, map[string]bool{"live": true})
}

// readiness is the body of /readyz.
type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty"`
}

// ready answers 200 when reasons returns nothing, else 503 with what it returned.
func ready(reasons func() []string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		found := reasons()
		status := http.StatusOK
		if len(found) > 0 {
			status = http.StatusServiceUnavailable
		}
		respond(w, status, readiness{Ready: len(found) == 0, Reasons: found})
	}
}

// absent answers what no route matches. The commonest mistake has a hint of its own: a client that was pointed at this
// listener instead of the registry API.
func absent(w http.ResponseWriter, r *http.Request) {
	hint := "GET /livez, /readyz, /metrics, /api/v1/status or /debug/pprof/"
	switch {
	case strings.HasPrefix(r.URL.Path, "/api"):
		hint = "GET /api/v1/status, /api/v1/tags or /api/v1/blobs; docs/api.md has all paths and methods"
	case r.URL.Path == "/v2" || strings.Contains(r.URL.Path+"/", "/v2/"):
		hint = "this is the admin listener (admin.listen); the registry API is answered at server.listen"
	}
	respond(w, http.StatusNotFound, Problem{Error: "no such path, or no such method on it", Hint: hint})
}

// respond writes a JSON answer. A write error means that the client has gone, and nobody is left to be told.
func respond(w http.ResponseWriter, status int, body any) {
	writeHead(w, status)
	_ = json.NewEncoder(w).Encode(body)
}

// writeHead writes status and headers of a JSON answer.
func writeHead(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
}
