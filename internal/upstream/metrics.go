package upstream

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// kind says what a request is for, in the words of the metrics.
type kind string

const (
	kindManifest  kind = "manifest"
	kindBlob      kind = "blob"
	kindTags      kind = "tags"
	kindReferrers kind = "referrers"
	kindPing      kind = "ping"
	kindToken     kind = "token"
	kindRedirect  kind = "redirect" // a hop to a redirect target
	kindSignIn    kind = "signin"   // to a cloud's service that gives out credentials
)

// metrics counts what is sent to all upstreams and what comes back.
type metrics struct {
	requests  *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	remaining *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mirror_upstream_requests_total",
			Help: "Requests sent to upstreams, by what they were for. Code is the status, or error when there was no answer. Kind redirect counts hops to the places that an upstream pointed to, kind signin requests to the clouds that give out credentials.",
		}, []string{"upstream", "kind", "method", "code"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mirror_upstream_bytes_total",
			Help: "Body bytes received from upstreams and the places they pointed to.",
		}, []string{"upstream"}),
		remaining: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mirror_upstream_ratelimit_remaining",
			Help: "The last number of requests that the upstream said are left in its window. Absent when it never said.",
		}, []string{"upstream"}),
	}
	for _, collector := range []prometheus.Collector{m.requests, m.bytes, m.remaining} {
		if err := reg.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// registryMetrics is metrics for one upstream.
type registryMetrics struct {
	all      *metrics
	upstream string
	bytes    prometheus.Counter
}

func (m *metrics) of(upstream string) *registryMetrics {
	return &registryMetrics{all: m, upstream: upstream, bytes: m.bytes.WithLabelValues(upstream)}
}

// answered counts one request. A nil answer is an error.
func (m *registryMetrics) answered(k kind, method string, resp *http.Response) {
	code := "error"
	// A status outside the registered classes would let a server make up labels.
	if resp != nil && resp.StatusCode >= 100 && resp.StatusCode < 600 {
		code = strconv.Itoa(resp.StatusCode)
	}
	m.all.requests.WithLabelValues(m.upstream, string(k), method, code).Inc()
}

// left shows how many requests the upstream says are left.
func (m *registryMetrics) left(n int64) { m.all.remaining.WithLabelValues(m.upstream).Set(float64(n)) }

// unscraped returns a registerer for a client that lives for a moment, and that nobody watches.
func unscraped() prometheus.Registerer { return prometheus.NewRegistry() }
