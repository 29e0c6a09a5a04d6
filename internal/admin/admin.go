package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// The bounds of one request. The answer may take minutes, because a CPU profile runs as long as its reader asked for.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = 10 * time.Minute
	idleTimeout   = 2 * time.Minute
)

// Admin answers operators.
type Admin struct {
	server *http.Server
}

// New builds the handlers over parts. Nothing listens yet.
func New(_ Config, parts Parts, log *slog.Logger) *Admin {
	log = log.With("component", "admin")
	return &Admin{server: &http.Server{
		Handler:           routes(parts, log),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}
}

// routes is the map of the admin listener. What is not in it gets a hint.
func routes(parts Parts, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", live)
	mux.HandleFunc("GET /readyz", ready(parts.Ready))
	mux.Handle("GET /metrics", metricsHandler(parts.Gatherer))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	(&api{parts, log}).register(mux)
	mux.HandleFunc("/", absent)
	return mux
}

// Serve answers requests from ln until Shutdown, and then returns nil.
func (a *Admin) Serve(ln net.Listener) error {
	if err := a.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops accepting and lets answers finish until ctx ends; then it closes every connection.
func (a *Admin) Shutdown(ctx context.Context) error {
	if err := a.server.Shutdown(ctx); err != nil {
		return errors.Join(err, a.server.Close())
	}
	return nil
}
