package admin_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/admin"
)

// start serves an admin listener for one test and returns its base URL.
func start(t *testing.T, parts admin.Parts) string {
	t.Helper()
	return startLogging(t, parts, io.Discard)
}

// startLogging is start with a log.
func startLogging(t *testing.T, parts admin.Parts, log io.Writer) string {
	t.Helper()
	cfg := admin.Config{Listen: "127.0.0.1:0"}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		t.Fatal(err)
	}
	a := admin.New(cfg, parts, slog.New(slog.NewTextHandler(log, nil)))
	served := make(chan error, 1)
	go func() { served <- a.Serve(ln) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := a.Shutdown(context.Background()); err != nil {
			t.Errorf("shut down: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return "http://" + ln.Addr().String()
}

// get returns status, content type and body of an answer.
func get(t *testing.T, method, url string) (status int, contentType, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Content-Type"), string(content)
}

func nothing() []string { return nil }

func TestAnswers(t *testing.T) {
	registry := prometheus.NewRegistry()
	events := prometheus.NewCounter(prometheus.CounterOpts{Name: "events_total", Help: "Events."})
	registry.MustRegister(events)
	events.Add(3)
	base := start(t, admin.Parts{Gatherer: registry, Ready: nothing})

	f := func(path, wantType, wantBody string) {
		t.Helper()
		status, contentType, body := get(t, http.MethodGet, base+path)
		if status != http.StatusOK || !strings.HasPrefix(contentType, wantType) || !strings.Contains(body, wantBody) {
			t.Errorf("%s: got %d, %s, %.200q, want 200, %s and %q", path, status, contentType, body, wantType, wantBody)
		}
	}
	f("/livez", "application/json", `"live":true`)
	f("/readyz", "application/json", `"ready":true`)
	f("/metrics", "text/plain", "events_total 3\n")
	f("/debug/pprof/", "text/html", "goroutine")
	f("/debug/pprof/goroutine?debug=1", "text/plain", "goroutine profile:")
	f("/debug/pprof/cmdline", "text/plain", "admin.test")
}

func TestReadyzSaysWhyNot(t *testing.T) {
	reasons := []string{"starting", "disk is full"}
	base := start(t, admin.Parts{Gatherer: prometheus.NewRegistry(), Ready: func() []string { return reasons }})
	status, contentType, body := get(t, http.MethodGet, base+"/readyz")
	var got struct {
		Ready   bool
		Reasons []string
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	if status != http.StatusServiceUnavailable || contentType != "application/json" || got.Ready || len(got.Reasons) != 2 {
		t.Errorf("got %d, %s, %+v, want 503 with both reasons", status, contentType, got)
	}
	if status, _, _ := get(t, http.MethodGet, base+"/livez"); status != http.StatusOK {
		t.Errorf("/livez answered %d while not ready, want 200: a restart would not help", status)
	}
}

func TestOtherPathsGetHints(t *testing.T) {
	base := start(t, admin.Parts{Gatherer: prometheus.NewRegistry(), Ready: nothing})
	f := func(method, path, wantHint string) {
		t.Helper()
		status, contentType, body := get(t, method, base+path)
		var got struct{ Error, Hint string }
		err := json.Unmarshal([]byte(body), &got)
		if err != nil || status != http.StatusNotFound || contentType != "application/json" || got.Error == "" || !strings.Contains(got.Hint, wantHint) {
			t.Errorf("%s %s: got %d, %s, %q, want 404 with the hint %q", method, path, status, contentType, body, wantHint)
		}
	}
	f(http.MethodGet, "/", "/metrics")
	f(http.MethodGet, "/health", "/livez")
	f(http.MethodPost, "/metrics", "GET")
	f(http.MethodDelete, "/livez", "GET")
	f(http.MethodGet, "/v2", "server.listen")
	f(http.MethodGet, "/v2/", "server.listen")
	f(http.MethodGet, "/ghcr.io/v2/org/app/tags/list", "server.listen")
}

// TestMetricsSurviveABrokenCollector checks that one collector with a fault does not blind operators.
func TestMetricsSurviveABrokenCollector(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sound", Help: "Sound."}, func() float64 { return 1 }))
	registry.MustRegister(broken{})
	base := start(t, admin.Parts{Gatherer: registry, Ready: nothing})
	if status, _, body := get(t, http.MethodGet, base+"/metrics"); status != http.StatusOK || !strings.Contains(body, "sound 1") {
		t.Errorf("got %d, %q, want the metrics of the sound collector", status, body)
	}
}

// broken is a collector whose metrics are always invalid.
type broken struct{}

func (broken) Describe(ch chan<- *prometheus.Desc) {
	ch <- prometheus.NewDesc("broken", "Broken.", nil, nil)
}

func (broken) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(prometheus.NewDesc("broken", "Broken.", nil, nil), io.ErrUnexpectedEOF)
}

func TestValidate(t *testing.T) {
	f := func(listen string, want bool) {
		t.Helper()
		if err := (admin.Config{Listen: listen}).Validate(); (err == nil) != want {
			t.Errorf("%q: %v", listen, err)
		}
	}
	f("127.0.0.1:5001", true)
	f(":5001", true)
	f("[::1]:0", true)
	f("localhost:5001", true)
	f("", false)
	f("5001", false)
	f("127.0.0.1", false)
	f("127.0.0.1:http", false)
	f("127.0.0.1:65536", false)
}
