//go:build e2e

package e2e_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestSizeLimitHolds pulls more through a mirror than it may keep. Every pull is right, also of a blob that alone is more
// than the limit, and the disk never holds much more than was allowed.
func TestSizeLimitHolds(t *testing.T) {
	const limit = 64 << 20
	registry := must(t, shared.registry)
	g := newGate(t, registry)
	set := dockerHub(g)
	set.maxSize = "64MiB"
	m := startMirror(t, set)
	for _, name := range []string{"library/size-a", "library/size-b", "library/size-c", "library/size-d"} {
		pullPlain(t, m, pushRandom(t, registry, name, 3, 8_000_000), "")
		expectWithin(t, m, limit)
	}
	t.Run("a blob beyond the limit is served all the same", func(t *testing.T) {
		huge := pushRandom(t, registry, "library/size-huge", 1, 80_000_000)
		mustPull(t, m, huge, huge.layers[0])
		expectWithin(t, m, limit)
	})
	t.Run("what was used last is still there", func(t *testing.T) {
		last := pushRandom(t, registry, "library/size-last", 2, 8_000_000)
		pullPlain(t, m, last, "")
		eventually(t, "layers stored", 10*time.Second, func() bool { return m.metric(t, "mirror_fills_in_flight") == 0 })
		before := g.blobBytes("")
		pullPlain(t, m, last, "")
		if n := g.blobBytes("") - before; n != 0 {
			t.Errorf("the second pull of the newest image took %d blob bytes from the registry, want 0", n)
		}
	})
	if n := m.metric(t, "mirror_cache_evicted_bytes_total", `tier="disk"`); n == 0 {
		t.Error("mirror_cache_evicted_bytes_total{tier=\"disk\"} is 0 after more pulls than fit")
	}
}

// expectWithin compares what the metrics and the disk say with the limit. What a fill has just been given may wait for
// a removal that happens off the request path, hence not at once.
func expectWithin(t *testing.T, m *mirror, limit int64) {
	t.Helper()
	eventually(t, "cache within its limit", 10*time.Second, func() bool {
		held := m.metric(t, "mirror_cache_bytes", `tier="disk"`) + m.metric(t, "mirror_cache_bytes", `tier="partial"`)
		return held <= float64(limit) && diskUsage(t, m.cache) <= limit+limit/16
	})
}

// diskUsage sums the blocks that the files below dir take. Sparse files count as what they hold.
func diskUsage(t *testing.T, dir string) int64 {
	t.Helper()
	var total int64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			info, err := entry.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			total += info.Sys().(*syscall.Stat_t).Blocks * 512
			return err
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // The mirror has removed it since.
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}
