package admin

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mirror/internal/mirror"
)

// Parts is what the admin listener shows.
type Parts struct {
	// Gatherer is what /metrics exposes.
	Gatherer prometheus.Gatherer
	// Ready returns why pulls cannot be served, or nothing when they can. It must not block.
	Ready func() []string
	// Mirror returns the mirror that the API is about, or nil while it starts or stops. It must not block.
	Mirror func() *mirror.Mirror
	// Version is of the program, Started when the process began.
	Version string
	Started time.Time
}

// metricsHandler exposes a gatherer. Scrapes that arrive together share one collection, so that impatient scrapers do
// not multiply the work; a collector that fails costs its own metrics and no others.
func metricsHandler(gatherer prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{
		ErrorHandling:  promhttp.ContinueOnError,
		CoalesceGather: true,
	})
}

// numbers are the metrics of one moment, a name and a label to the sums for its values. An empty label has one value, which
// is empty.
type numbers struct {
	by func(name, label string) map[string]int64
}

func (n numbers) sum(name string) int64 { return n.by(name, "")[""] }

// gather reads counters and gauges. A collector that fails costs its own metrics and no others.
func gather(gatherer prometheus.Gatherer) numbers {
	families, _ := gatherer.Gather() // what could be gathered is right
	return numbers{by: func(name, label string) map[string]int64 {
		sums := make(map[string]int64)
		for _, family := range families {
			if family.GetName() != name {
				continue
			}
			for _, metric := range family.GetMetric() {
				value := ""
				for _, pair := range metric.GetLabel() {
					if pair.GetName() == label {
						value = pair.GetValue()
					}
				}
				sums[value] += int64(metric.GetCounter().GetValue() + metric.GetGauge().GetValue())
			}
		}
		return sums
	}}
}
