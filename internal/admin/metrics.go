package admin

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Parts is what the admin listener shows.
type Parts struct {
	// Gatherer is what /metrics exposes.
	Gatherer prometheus.Gatherer
	// Ready returns why pulls cannot be served, or nothing when they can. It must not block.
	Ready func() []string
}

// metricsHandler exposes a gatherer. Scrapes that arrive together share one collection, so that impatient scrapers do
// not multiply the work; a collector that fails costs its own metrics and no others.
func metricsHandler(gatherer prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{
		ErrorHandling:  promhttp.ContinueOnError,
		CoalesceGather: true,
	})
}
