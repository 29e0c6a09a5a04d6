package drain_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mirror/bench/drain"
)

const size = 3 << 20

// server answers /layer with size bytes, and everything else with "no such thing".
func server(t *testing.T, secure bool) *httptest.Server {
	t.Helper()
	content := strings.Repeat("layer---", size/8)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/layer" {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
	}))
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func TestRun(t *testing.T) {
	s := server(t, false)
	for _, f := range []struct {
		name  string
		ask   drain.Request
		bytes int64 // of each answer
	}{
		{"whole", drain.Request{Path: "/layer"}, size},
		{"head", drain.Request{Method: http.MethodHead, Path: "/layer"}, 0},
		{"range", drain.Request{Path: "/layer", Range: "bytes=5-104", Status: 206}, 100},
	} {
		t.Run(f.name, func(t *testing.T) {
			got := load(t, s.Listener.Addr().String(), f.ask)
			if got.Requests == 0 || got.Bytes < got.Requests*f.bytes || got.Bytes > (got.Requests+3)*f.bytes {
				t.Errorf("%d requests brought %d bytes, want %d for each", got.Requests, got.Bytes, f.bytes)
			}
			if got.Latency.Quantile(0.5) == 0 {
				t.Error("no latency")
			}
		})
	}
}

// load sends requests for as long as it takes until some were answered, on however busy a machine.
func load(t *testing.T, address string, ask drain.Request) drain.Result {
	t.Helper()
	for d := 100 * time.Millisecond; ; d *= 2 {
		got, err := drain.Run(t.Context(), drain.Load{Address: address, Connections: 3, For: d, Next: func(int) drain.Request { return ask }})
		if err != nil {
			t.Fatal(err)
		}
		if got.Requests > 0 {
			return got
		}
	}
}

func TestRunRefusesOtherAnswers(t *testing.T) {
	s := server(t, false)
	_, err := drain.Run(t.Context(), drain.Load{Address: s.Listener.Addr().String(), Connections: 1, For: time.Minute,
		Next: func(int) drain.Request { return drain.Request{Path: "/other"} }})
	if err == nil || !strings.Contains(err.Error(), "want 200") {
		t.Errorf("error is %v, want one that says what was wanted", err)
	}
}

func TestOnce(t *testing.T) {
	plain := server(t, false)
	got, err := drain.Once(t.Context(), plain.Listener.Addr().String(), drain.Request{Path: "/layer"})
	if err != nil || got.Bytes != size || got.First <= 0 || got.All < got.First {
		t.Errorf("plain: %+v, %v", got, err)
	}
	secure := server(t, true)
	config := secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.MinVersion, config.ServerName = tls.VersionTLS13, "example.com"
	got, err = drain.OnceTLS(t.Context(), secure.Listener.Addr().String(), config, drain.Request{Path: "/layer"}, size)
	if err != nil || got.Bytes != size {
		t.Errorf("TLS: %+v, %v", got, err)
	}
	if _, err = drain.OnceTLS(t.Context(), secure.Listener.Addr().String(), config, drain.Request{Path: "/other"}, size); err == nil {
		t.Error("TLS: an answer that is too short passed")
	}
}

func TestOnceEndsWithItsContext(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := drain.Once(ctx, s.Listener.Addr().String(), drain.Request{Path: "/"}); err == nil {
		t.Error("a server that says nothing was waited for")
	}
}

func TestHistogram(t *testing.T) {
	var h drain.Histogram
	for n := range 1000 {
		h.Add(time.Duration(n+1) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond, 1: time.Millisecond} {
		if got := h.Quantile(q); got < want || float64(got) > 1.07*float64(want) {
			t.Errorf("quantile %v is %v, want %v or up to 7 %% more", q, got, want)
		}
	}
	if got := new(drain.Histogram).Quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing is %v", got)
	}
}
