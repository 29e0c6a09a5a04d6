package cache_test

import (
	"bytes"
	"context"
	"errors"
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

// BenchmarkLookup finds content in each state that it can be in.
func BenchmarkLookup(b *testing.B) {
	f := func(name string, prepare func(b *testing.B) (*cache.Cache, oci.Digest), look func(testing.TB, *cache.Cache, oci.Digest)) {
		b.Run(name, func(b *testing.B) {
			c, d := prepare(b)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					look(b, c, d)
				}
			})
		})
	}
	f("memory", func(b *testing.B) (*cache.Cache, oci.Digest) { return stored(b, 5*kib) }, hit)
	f("disk", func(b *testing.B) (*cache.Cache, oci.Digest) { return stored(b, 2*mib) }, hit)
	f("filling", func(b *testing.B) (*cache.Cache, oci.Digest) { return growing(b, 16*mib) }, hit)
	f("absent", func(b *testing.B) (*cache.Cache, oci.Digest) {
		_, d := content(7)
		return cachetest.Open(b, cachetest.Config(b)), d
	}, miss)
}

// miss looks for content that is not there.
func miss(t testing.TB, c *cache.Cache, d oci.Digest) {
	if _, err := c.Open(d); !errors.Is(err, cache.ErrNotFound) {
		t.Fatalf("error is %v, want %v", err, cache.ErrNotFound)
	}
}

// growing returns a cache with a fill of which n bytes have come, and whose last byte comes when the benchmark is over.
func growing(b *testing.B, n int64) (*cache.Cache, oci.Digest) {
	b.Helper()
	c := cachetest.Open(b, cachetest.Config(b))
	want, d := content(int(n) + 1)
	rest := make(chan struct{})
	from := func(_ context.Context, span cache.Span) (*cache.Stream, error) {
		body := io.MultiReader(bytes.NewReader(want[span.Start:n]), &late{rest, want[n:]})
		return &cache.Stream{Body: io.NopCloser(body), Start: span.Start, Size: n + 1}, nil
	}
	blob, _, err := c.Fill(cache.Request{Digest: d, Size: n + 1, From: from, Fetches: 1})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := blob.WriteRange(io.Discard, 0, n/2); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { close(rest); _ = blob.Close() }) // before the clean-up of the cache, which waits for the fill
	return c, d
}

// late is a reader that waits.
type late struct {
	until <-chan struct{}
	rest  []byte
}

func (l *late) Read(p []byte) (int, error) {
	<-l.until
	n := copy(p, l.rest)
	if l.rest = l.rest[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// BenchmarkGrowing reads what has come of content that is still arriving.
func BenchmarkGrowing(b *testing.B) {
	const n = 8 * mib
	c, d := growing(b, 2*n)
	b.SetBytes(n)
	b.ReportAllocs()
	for b.Loop() {
		blob, err := c.Open(d)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := blob.WriteRange(io.Discard, 0, n); err != nil {
			b.Fatal(err)
		}
		if err := blob.Close(); err != nil {
			b.Fatal(err)
		}
	}
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
