package mirror

import "github.com/prometheus/client_golang/prometheus"

// kind is what a lookup was for.
type kind uint8

const (
	manifestKind kind = iota
	blobKind
	kinds
)

// metrics counts lookups. The children are resolved once, so that counting is one atomic addition.
type metrics struct {
	lookups [kinds][outcomes][sources]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mirror_lookups_total",
		Help: "Content lookups, by kind, outcome and source of the bytes. Each valid manifest or blob request, HEAD included, is one; one that ends in an error counts as a miss from upstream.",
	}, []string{"kind", "outcome", "source"})
	reg.MustRegister(lookups)
	m := new(metrics)
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
