package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
)

// stored returns a cache with content of n bytes, in memory if it is small enough for that.
func stored(t testing.TB, n int) (*cache.Cache, oci.Digest) {
	t.Helper()
	c := cachetest.Open(t, cachetest.Config(t))
	b, d := content(n)
	if err := c.Put(d, b); err != nil {
		t.Fatal(err)
	}
	for n <= mib {
		blob, err := c.Open(d)
		if err != nil {
			t.Fatal(err)
		}
		tier := blob.Tier()
		_ = blob.Close()
		if tier == cache.TierMemory {
			break
		}
	}
	return c, d
}

// hit opens content, looks at it and closes it.
func hit(t testing.TB, c *cache.Cache, d oci.Digest) {
	blob, err := c.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	if blob.Size() <= 0 {
		t.Fatal("no size")
	}
	if err := blob.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAllocations: a hit allocates a blob, and on disk what the standard library needs for an open file. The numbers
// leave room for what the race detector makes pools forget.
func TestAllocations(t *testing.T) {
	f := func(name string, size int, most float64) {
		t.Helper()
		c, d := stored(t, size)
		if got := testing.AllocsPerRun(1000, func() { hit(t, c, d) }); got > most {
			t.Errorf("a hit %s allocates %.1f times, want at most %.0f", name, got, most)
		}
	}
	f("in memory", 5*kib, 2)
	f("on disk", 2*mib, 10)
}

func BenchmarkHit(b *testing.B) {
	f := func(name string, size int) {
		b.Run(name, func(b *testing.B) {
			c, d := stored(b, size)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					hit(b, c, d)
				}
			})
		})
	}
	f("memory", 5*kib)
	f("disk", 2*mib)
}

// BenchmarkFill fills 64 MiB from a source that costs nothing, with readers that follow it.
func BenchmarkFill(b *testing.B) {
	const n = 64 * mib
	want, d := content(n)
	from := func(_ context.Context, span cache.Span) (*cache.Stream, error) {
		return &cache.Stream{Body: io.NopCloser(bytes.NewReader(want[span.Start:])), Start: span.Start, Size: n}, nil
	}
	for _, readers := range []int{1, 8} {
		b.Run(fmt.Sprintf("readers=%d", readers), func(b *testing.B) {
			c := cachetest.Open(b, cachetest.Config(b))
			b.SetBytes(n)
			b.ReportAllocs()
			for b.Loop() {
				var wg sync.WaitGroup
				for range readers {
					blob, _, err := c.Fill(cache.Request{Digest: d, Size: n, From: from, Fetches: 1})
					if err != nil {
						b.Fatal(err)
					}
					wg.Go(func() {
						defer blob.Close()
						if _, err := blob.WriteRange(io.Discard, 0, -1); err != nil {
							b.Error(err)
						}
					})
				}
				wg.Wait()
				cachetest.Settle(c)
				c.Remove(d)
			}
		})
	}
}
