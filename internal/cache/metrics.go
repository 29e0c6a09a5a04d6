package cache

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the cache does. Gauges are read from the cache when somebody scrapes.
type metrics struct {
	complete, resumed, failed, mismatch prometheus.Counter
	evictedDisk, evictedMemory          prometheus.Counter
	noRoom, noDisk                      prometheus.Counter
	quarantined, rechecked, scrubbed    prometheus.Counter
	scrubs                              prometheus.Observer
}

func newMetrics(c *Cache, reg prometheus.Registerer) *metrics {
	fills := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mirror_fills_total",
		Help: "Fills that have ended, by outcome; each fill counts once. complete: stored without interruption. resumed: stored after at least one interruption. failed: the source or the disk gave up. mismatch: the bytes did not have the digest.",
	}, []string{"outcome"})
	evicted := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mirror_cache_evicted_bytes_total", Help: "Bytes of content dropped to make room, by tier.",
	}, []string{"tier"})
	unstored := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mirror_cache_not_stored_total",
		Help: "Contents that could not be stored, by reason; their readers get them straight from the upstream. room: the limit or the file system is full, and nothing can be evicted. disk: the data directory could not be written.",
	}, []string{"reason"})
	quarantined := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "mirror_cache_quarantined_total",
		Help: "Stored content found short or altered, and taken out of service. More than none means that the disk or the memory of the machine is failing, or that somebody writes to the data directory.",
	})
	rechecked := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "mirror_cache_rechecked_total",
		Help: "Stored content that was read against its digest before it was served, because its file had changed since it was verified or nobody knew when that was: after the first start of a version that notes it, after a crash, or after files were restored.",
	})
	scrubbed := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "mirror_scrub_bytes_total", Help: "Bytes of stored content that the scrub has compared with their digests.",
	})
	scrubs := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "mirror_scrub_seconds", Help: "How long each pass of the scrub over everything that is stored took.",
		Buckets: prometheus.ExponentialBuckets(1, 4, 10), // 1 s to 3 days
	})
	reg.MustRegister(fills, evicted, unstored, quarantined, rechecked, scrubbed, scrubs, &gauges{c})
	return &metrics{
		complete: fills.WithLabelValues("complete"), resumed: fills.WithLabelValues("resumed"),
		failed: fills.WithLabelValues("failed"), mismatch: fills.WithLabelValues("mismatch"),
		evictedDisk: evicted.WithLabelValues("disk"), evictedMemory: evicted.WithLabelValues("memory"),
		noRoom: unstored.WithLabelValues("room"), noDisk: unstored.WithLabelValues("disk"),
		quarantined: quarantined, rechecked: rechecked, scrubbed: scrubbed, scrubs: scrubs,
	}
}

// fillEnded counts the end of a fill.
func (m *metrics) fillEnded(resumed bool, err error) {
	switch {
	case errors.Is(err, errRetired): // it has done all that it was asked for
	case errors.Is(err, ErrWrongContent):
		m.mismatch.Inc()
	case err != nil:
		m.failed.Inc()
		if storeTrouble(err) {
			m.notStored(err)
		}
	case resumed:
		m.resumed.Inc()
	default:
		m.complete.Inc()
	}
}

// notStored counts content that could not be stored.
func (m *metrics) notStored(err error) {
	if errors.Is(err, ErrNoRoom) {
		m.noRoom.Inc()
		return
	}
	m.noDisk.Inc()
}

func (m *metrics) evictedFromMemory(n int64) { m.evictedMemory.Add(float64(n)) }

// gauges reports what the cache holds at the moment of a scrape.
type gauges struct{ cache *Cache }

var (
	_ prometheus.Collector = (*gauges)(nil)

	bytesDesc  = prometheus.NewDesc("mirror_cache_bytes", "Bytes held, by tier; partial is what fills have received so far.", []string{"tier"}, nil)
	blobsDesc  = prometheus.NewDesc("mirror_cache_blobs", "Blobs held, by tier.", []string{"tier"}, nil)
	fillsDesc  = prometheus.NewDesc("mirror_fills_in_flight", "Fills that are running.", nil, nil)
	pinnedDesc = prometheus.NewDesc("mirror_cache_pinned_bytes", "Bytes of the disk tier that are pinned, and never evicted.", nil, nil)
	freeDesc   = prometheus.NewDesc("mirror_cache_free_bytes", "Bytes that the file system of the data directory has left.", nil, nil)
	limitDesc  = prometheus.NewDesc("mirror_cache_limit_bytes", "The size limit of the disk tier, partial content included.", nil, nil)
)

func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{bytesDesc, pinnedDesc, blobsDesc, fillsDesc, limitDesc, freeDesc} {
		ch <- d
	}
}

func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	c := g.cache
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	if c.memory != nil {
		gauge(bytesDesc, c.memory.bytes.Load(), "memory")
		gauge(blobsDesc, c.memory.blobs.Load(), "memory")
	}
	gauge(bytesDesc, c.index.bytes.Load(), "disk")
	gauge(blobsDesc, c.index.blobs.Load(), "disk")
	gauge(pinnedDesc, c.index.pinnedBytes.Load())
	fills, parts, bytes := c.partial()
	gauge(bytesDesc, bytes, "partial")
	gauge(blobsDesc, fills+parts, "partial")
	gauge(fillsDesc, fills)
	gauge(limitDesc, c.room.limit)
	if free, all, err := c.space.look(c.space.dir); err == nil && all > 0 {
		gauge(freeDesc, free)
	}
}

// partial counts running fills, resting parts and the bytes that both have.
func (c *Cache) partial() (fills, parts, bytes int64) {
	c.index.eachFill(func(f *fill) {
		fills++
		f.mu.Lock()
		if f.part != nil {
			bytes += f.part.present.total()
		}
		f.mu.Unlock()
	})
	for i := range c.index.shards {
		s := &c.index.shards[i]
		s.mu.RLock()
		for _, p := range s.parts {
			parts++
			bytes += p.reserved
		}
		s.mu.RUnlock()
	}
	return fills, parts, bytes
}
