package mirror

import "github.com/prometheus/client_golang/prometheus"

// kind is what a lookup was for.
type kind uint8

const (
	manifestKind kind = iota
	blobKind
	kinds
)

// metrics counts lookups, and what is fetched ahead. The children of lookups are resolved once, so that counting is one atomic
// addition.
type metrics struct {
	lookups                  [kinds][outcomes][sources]prometheus.Counter
	prefetched, prefetchUsed *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mirror_lookups_total",
		Help: "Content lookups, by kind, outcome and source of the bytes. Each valid manifest or blob request, HEAD included, is one; one that ends in an error counts as a miss from upstream.",
	}, []string{"kind", "outcome", "source"})
	m := &metrics{
		prefetched: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mirror_prefetched_bytes_total",
			Help: "Bytes of blobs that the mirror began to fetch before anybody had asked for them.",
		}, []string{"upstream"}),
		prefetchUsed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mirror_prefetch_used_bytes_total",
			Help: "Those of mirror_prefetched_bytes_total that a client asked for within an hour.",
		}, []string{"upstream"}),
	}
	reg.MustRegister(lookups, m.prefetched, m.prefetchUsed)
	for k, name := range [kinds]string{"manifest", "blob"} {
		for o := range outcomes {
			for s := range sources {
				m.lookups[k][o][s] = lookups.WithLabelValues(name, o.String(), s.String())
			}
		}
	}
	return m
}

func (m *metrics) lookup(k kind, o Outcome, s Source) { m.lookups[k][o][s].Inc() }
