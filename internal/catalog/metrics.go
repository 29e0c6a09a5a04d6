package catalog

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the catalog holds and writes.
type metrics struct {
	all          []prometheus.Collector
	succeeded    prometheus.Counter
	failed       prometheus.Counter
	seconds      prometheus.Histogram
	damaged      prometheus.Counter
	listsDropped prometheus.Counter
}

func newMetrics(c *Catalog) *metrics {
	commits := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mirror_catalog_commits_total",
		Help: "Transactions that wrote changed names, by outcome (ok, failed). What a failed one held is tried again.",
	}, []string{"outcome"})
	m := &metrics{
		succeeded: commits.WithLabelValues("ok"),
		failed:    commits.WithLabelValues("failed"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "mirror_catalog_commit_seconds",
			Help:    "How long those transactions took, disk syncs included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8), // 0.5 ms to 8 s
		}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mirror_catalog_damaged_total",
			Help: "Catalog files found damaged and set aside.",
		}),
		listsDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mirror_catalog_lists_dropped_total",
			Help: "Lists of tags or referrers that were too long to remember, or forgotten for room.",
		}),
	}
	m.all = []prometheus.Collector{commits, m.seconds, m.damaged, m.listsDropped,
		gauge("mirror_catalog_repositories", "Repositories that the catalog knows.", c.repositoryCount),
		gauge("mirror_catalog_tags", "Tags that the catalog knows.", c.tagCount),
		gauge("mirror_catalog_links", "Digests that the catalog knows to be in a repository, once for each repository.", c.linkCount),
		gauge("mirror_catalog_lists", "Lists of tags or referrers kept for outages.", c.lists.count),
	}
	return m
}

func gauge(name, help string, read func() int) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(read()) })
}

// register makes the metrics visible. It panics when the registerer has another catalog already, which is a mistake in
// wiring.
func (m *metrics) register(reg prometheus.Registerer) {
	if reg != nil {
		reg.MustRegister(m.all...)
	}
}

// committed counts a transaction.
func (m *metrics) committed(err error, took time.Duration) {
	m.seconds.Observe(took.Seconds())
	if err != nil {
		m.failed.Inc()
		return
	}
	m.succeeded.Inc()
}

func (c *Catalog) repositoryCount() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.repositories)
}

func (c *Catalog) tagCount() (n int) {
	for _, r := range c.allRepositories() {
		n += r.tagCount()
	}
	return n
}

func (c *Catalog) linkCount() (n int) {
	for _, r := range c.allRepositories() {
		n += r.linkCount()
	}
	return n
}
