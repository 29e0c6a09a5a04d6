// Package cachetest opens caches for tests: in a temporary directory, with their invariants checked at clean-up.
package cachetest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/units"
)

// Config returns a configuration for a cache of 1 GiB in a fresh directory.
func Config(t testing.TB) cache.Config {
	return cache.Config{
		Dir:     t.TempDir(),
		MaxSize: units.GiB,
		Memory:  cache.MemoryConfig{MaxSize: 16 * units.MiB, MaxBlob: units.MiB},
	}
}

// Open opens a cache that is checked and closed when the test ends. The check waits for fills that are still running, so
// a test that holds a source back must let it go before it returns.
func Open(t testing.TB, cfg cache.Config) *cache.Cache {
	t.Helper()
	c := Unchecked(t, cfg)
	t.Cleanup(func() {
		Settle(c)
		if err := c.Check(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Unchecked opens a cache that is only closed when the test ends.
func Unchecked(t testing.TB, cfg cache.Config) *cache.Cache {
	t.Helper()
	c, err := cache.Open(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
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

// Settle waits until no fill is running.
func Settle(c *cache.Cache) {
	for c.Fills() > 0 {
		time.Sleep(time.Millisecond)
	}
}
