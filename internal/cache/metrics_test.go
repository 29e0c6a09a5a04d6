package cache_test

import (
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/units"
)

// TestMetrics: each fill counts once, by how it ended; the gauges tell what is held, while it arrives and afterwards.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := cachetest.Config(t)
		cfg.MaxSize = 8 * units.MiB
		registry := prometheus.NewRegistry()
		c, err := cache.Open(cfg, slog.New(slog.DiscardHandler), registry)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		want := func(name, label string, want float64) {
			t.Helper()
			if got := gauge(t, registry, name, label); got != want {
				t.Errorf("%s of %s is %.0f, want %.0f", name, label, got, want)
			}
		}

		b, d := content(2 * mib)
		o := newOrigin(b)
		open := o.close(mib, 2*mib)
		reader := start(fill(t, c, o.request(d)), b, 0, -1)
		synctest.Wait()
		want("mirror_cache_bytes", "partial", mib)
		want("mirror_cache_blobs", "partial", 1)
		open()
		reader.complete(t)
		cachetest.Settle(c)
		want("mirror_fills_total", "complete", 1)
		want("mirror_cache_bytes", "disk", 2*mib)
		want("mirror_cache_bytes", "partial", 0)

		sleepSeconds(2)
		b, d = content(2*mib + 1)
		o = newOrigin(b)
		o.cuts = []int64{mib}
		wantWhole(t, c, o.request(d), b)
		cachetest.Settle(c)
		want("mirror_fills_total", "resumed", 1)

		b, d = content(2*mib + 2)
		o = newOrigin(b)
		o.wrong = []int64{mib}
		start(fill(t, c, o.request(d)), b, 0, -1).short(t, cache.ErrWrongContent)
		cachetest.Settle(c)
		want("mirror_fills_total", "mismatch", 1)
		o.down = errDown
		start(fill(t, c, o.request(d)), b, 0, -1).short(t, errDown)
		cachetest.Settle(c)
		want("mirror_fills_total", "failed", 1)
		want("mirror_cache_blobs", "disk", 2)

		large, d := content(5 * mib) // evicts the first
		wantWhole(t, c, newOrigin(large).request(d), large)
		cachetest.Settle(c)
		want("mirror_cache_evicted_bytes_total", "disk", 2*mib)
		want("mirror_cache_blobs", "disk", 2)
		want("mirror_fills_total", "complete", 2)
	})
}
