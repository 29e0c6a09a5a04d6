package cache_test

import (
	"io"
	"runtime"
	"testing"

	"mirror/internal/cache"
	"mirror/internal/oci"
)

// TestMemoryHitCopiesNothing: what a hit allocates does not grow with the blob.
func TestMemoryHitCopiesNothing(t *testing.T) {
	const most, runs = 1024, 1000
	for _, size := range []int{kib, mib} {
		c, d := stored(t, size)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			serve(t, c, d)
		}
		runtime.ReadMemStats(&after)
		if got := (after.TotalAlloc - before.TotalAlloc) / runs; got > most {
			t.Errorf("a hit of %d bytes allocates %d bytes, want at most %d", size, got, most)
		}
	}
}

// serve is a hit that is sent.
func serve(t *testing.T, c *cache.Cache, d oci.Digest) {
	blob, err := c.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	if _, err := blob.WriteRange(io.Discard, 0, -1); err != nil {
		t.Fatal(err)
	}
}
