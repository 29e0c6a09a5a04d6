package cache_test

import (
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
	"mirror/internal/units"
)

// TestMemoryResistsScans: manifests that were asked for again and again stay in memory although nobody asks for them while
// 600 small blobs, five times what the tier holds, come by once each.
func TestMemoryResistsScans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := cachetest.Config(t)
		cfg.Sync = cache.SyncLazy
		cfg.Memory = cache.MemoryConfig{MaxSize: units.MiB, MaxBlob: units.MiB}
		c := openCounting(t, cfg)
		var hot []oci.Digest
		for i := range 20 {
			hot = append(hot, putContent(t, c, 2*kib+i))
		}
		for range 20 { // a counter ends at 15
			for _, d := range hot {
				hit(t, c, d)
				synctest.Wait() // a hit is not counted when too many come at once
			}
		}
		for i := range 600 {
			hit(t, c, putContent(t, c, 8*kib+i))
			synctest.Wait()
		}
		kept := 0
		for _, d := range hot {
			if tierOf(t, c, d) == cache.TierMemory {
				kept++
			}
		}
		if kept < len(hot)-2 {
			t.Errorf("%d of %d hot blobs are in memory after the scan, want nearly all", kept, len(hot))
		}
	})
}

// openCounting opens a cache that counts each hit in memory at once, and closes it at the end.
func openCounting(t *testing.T, cfg cache.Config) *cache.Cache {
	t.Helper()
	c, err := cache.OpenCounting(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func putContent(t *testing.T, c *cache.Cache, size int) oci.Digest {
	t.Helper()
	b, d := content(size)
	if err := c.Put(d, b); err != nil {
		t.Fatal(err)
	}
	return d
}

func tierOf(t *testing.T, c *cache.Cache, d oci.Digest) cache.Tier {
	t.Helper()
	blob, err := c.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	return blob.Tier()
}
