package cache_test

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
	"mirror/internal/units"
)

// tier returns where content is served from, and whether it is right.
func tier(t *testing.T, c *cache.Cache, d oci.Digest, want []byte) cache.Tier {
	t.Helper()
	blob, err := c.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	wantRange(t, blob, 0, want)
	if blob.Tier() == cache.TierMemory && !bytes.Equal(blob.Bytes(), want) {
		t.Error("memory holds other bytes")
	}
	return blob.Tier()
}

func TestMemoryHit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		put, putDigest := content(3000)
		if err := c.Put(putDigest, put); err != nil {
			t.Fatal(err)
		}
		filled, filledDigest := content(4000)
		wantWhole(t, c, newOrigin(filled).request(filledDigest), filled)
		cachetest.Settle(c)
		synctest.Wait()
		if got := tier(t, c, putDigest, put); got != cache.TierMemory {
			t.Errorf("content that was put is in tier %d, want memory", got)
		}
		if got := tier(t, c, filledDigest, filled); got != cache.TierDisk {
			t.Errorf("content that was asked for once is in tier %d, want disk", got)
		}
		synctest.Wait()
		if got := tier(t, c, filledDigest, filled); got != cache.TierMemory {
			t.Errorf("content that was asked for again is in tier %d, want memory", got)
		}
		large, largeDigest := content(mib + 1)
		if err := c.Put(largeDigest, large); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			synctest.Wait()
			if got := tier(t, c, largeDigest, large); got != cache.TierDisk {
				t.Errorf("content above max_blob is in tier %d, want disk", got)
			}
		}
		c.Remove(putDigest)
		if _, err := c.Open(putDigest); err == nil {
			t.Error("removed content is still served")
		}
	})
}

func TestMemoryOff(t *testing.T) {
	c, _ := limited(t, units.GiB)
	b, d := content(100)
	if err := c.Put(d, b); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := tier(t, c, d, b); got != cache.TierDisk {
			t.Errorf("tier %d, want disk", got)
		}
	}
}

// TestRemoveDuringOffer: content that is removed while it is on its way into memory is not served afterwards.
func TestRemoveDuringOffer(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	b, d := content(1000)
	for range 100 {
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
		c.Remove(d)
		if _, err := c.Open(d); err == nil {
			t.Fatal("removed content is still served")
		}
	}
}

// TestMemoryIsBounded: after ten thousand offers the tier holds no more than it may.
func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := cachetest.Config(t)
		cfg.Memory.MaxSize, cfg.Memory.MaxBlob = units.MiB, 64*units.KiB
		registry := prometheus.NewRegistry()
		c, err := cache.Open(cfg, slog.New(slog.DiscardHandler), registry)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		const count = 100
		var digests []oci.Digest
		for i := range count {
			b, d := content(20*kib + 300*i)
			if err := c.Put(d, b); err != nil {
				t.Fatal(err)
			}
			digests = append(digests, d)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range 10_000 / 4 {
					blob, err := c.Open(digests[i*i%count])
					if err != nil {
						t.Error(err)
						return
					}
					_ = blob.Close()
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		held := gauge(t, registry, "mirror_cache_bytes", "memory")
		if held <= 0 || held > float64(cfg.Memory.MaxSize) {
			t.Errorf("memory holds %.0f bytes, want some and at most %d", held, cfg.Memory.MaxSize)
		}
		for _, d := range digests {
			c.Remove(d)
		}
		synctest.Wait()
		if held := gauge(t, registry, "mirror_cache_bytes", "memory"); held != 0 {
			t.Errorf("memory holds %.0f bytes after everything was removed", held)
		}
	})
}

// gauge returns the value of the metric with the label value, or -1. An empty label stands for none.
func gauge(t *testing.T, registry *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := m.GetLabel()
			if f.GetName() == name && (label == "" && len(labels) == 0 || len(labels) == 1 && labels[0].GetValue() == label) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

// TestCloseDuringHits: hits and removals while the cache closes get content or an error, and nothing worse.
func TestCloseDuringHits(t *testing.T) {
	for range 5 {
		c := cachetest.Unchecked(t, cachetest.Config(t))
		b, d := content(1000)
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if blob, err := c.Open(d); err == nil {
						_ = blob.Close()
					}
				}
			})
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		c.Remove(d)
		close(stop)
		wg.Wait()
	}
}
