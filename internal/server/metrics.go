package server

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/mirror"
)

// The last values of the mirror's words, which size the tables of label children.
const (
	outcomes = int(mirror.Stale) + 1
	sources  = int(mirror.Upstream) + 1
	// statusCodes bounds the status codes: 100 to 599.
	statusCodes = 500
)

// metrics counts what the registry API does. Children are resolved once: those of sources and outcomes at
// construction, those of status codes when the code first occurs.
type metrics struct {
	requests     *prometheus.CounterVec
	byCode       [kinds][methods][statusCodes]atomic.Pointer[prometheus.Counter]
	servedBytes  [sources]prometheus.Counter
	servedOf     *prometheus.CounterVec
	byUpstream   sync.Map // prometheus.Counter by the name of an upstream: children of servedOf
	firstBytes   [outcomes]prometheus.Observer
	connections  prometheus.Gauge
	refusedTotal prometheus.Counter
	refusedHost  prometheus.Counter
	cutByClient  prometheus.Counter
	cutByContent prometheus.Counter
	accessLost   prometheus.Counter
	panics       prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mirror_requests_total",
		Help: "Answered requests of the registry API, counted when the status is decided."}, []string{"kind", "method", "code"})
	served := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mirror_served_bytes_total",
		Help: "Body bytes of manifests and blobs sent to clients, by where the content came from."}, []string{"source"})
	servedOf := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mirror_upstream_served_bytes_total",
		Help: "Body bytes of manifests and blobs sent to clients, by the upstream that they asked for them."}, []string{"upstream"})
	firstByte := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "mirror_first_byte_seconds",
		Help:    "Time from a manifest or blob request to the first byte of its body, or to the headers of a HEAD answer.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25}}, []string{"outcome"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mirror_connections_refused_total",
		Help: "Connections closed at once because a limit was reached: of all connections, or of those from one address."}, []string{"limit"})
	cut := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mirror_bodies_cut_total",
		Help: "Bodies that ended before their length, because the client left or because the content failed."}, []string{"by"})
	m := &metrics{
		requests: requests, servedOf: servedOf,
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "mirror_connections",
			Help: "Open connections of clients."}),
		accessLost: prometheus.NewCounter(prometheus.CounterOpts{Name: "mirror_access_log_dropped_total",
			Help: "Lines of the access log that were dropped because the log was slower than the requests."}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "mirror_panics_total",
			Help: "Requests ended by a fault of the program. Each is logged with its stack and worth a report."}),
		refusedTotal: refused.WithLabelValues("total"),
		refusedHost:  refused.WithLabelValues("address"),
		cutByClient:  cut.WithLabelValues("client"),
		cutByContent: cut.WithLabelValues("content"),
	}
	for i := range m.servedBytes {
		m.servedBytes[i] = served.WithLabelValues(mirror.Source(i).String())
	}
	for i := range m.firstBytes {
		m.firstBytes[i] = firstByte.WithLabelValues(mirror.Outcome(i).String())
	}
	return m, register(reg, requests, served, servedOf, firstByte, refused, cut, m.connections, m.accessLost, m.panics)
}

func register(reg prometheus.Registerer, collectors ...prometheus.Collector) error {
	for _, c := range collectors {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// answered counts a request whose status is decided.
func (m *metrics) answered(r *record) {
	code := min(max(r.status, 100), 599)
	slot := &m.byCode[r.kind][r.method][code-100]
	child := slot.Load()
	if child == nil {
		// Two goroutines may get here at once; both resolve the same child.
		counter := m.requests.WithLabelValues(r.kind.String(), r.method.String(), strconv.Itoa(code))
		child = &counter
		slot.Store(child)
	}
	(*child).Inc()
}

// firstByte observes how long the client waited.
func (m *metrics) firstByte(r *record) { m.waited(r, time.Since(r.started)) }

func (m *metrics) waited(r *record, d time.Duration) { m.firstBytes[r.outcome].Observe(d.Seconds()) }

// served counts body bytes. Only what is configured is ever served, so the names of upstreams are few.
func (m *metrics) served(r *record, n int64) {
	m.servedBytes[r.source].Add(float64(n))
	child, ok := m.byUpstream.Load(r.repository.Registry)
	if !ok {
		child, _ = m.byUpstream.LoadOrStore(r.repository.Registry, m.servedOf.WithLabelValues(r.repository.Registry))
	}
	child.(prometheus.Counter).Add(float64(n))
}

// ended counts a body that was cut short.
func (m *metrics) ended(r *record) {
	switch r.cut {
	case cutByClient:
		m.cutByClient.Inc()
	case cutByContent:
		m.cutByContent.Inc()
	}
}
