package cache_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
)

func content(n int) ([]byte, oci.Digest) {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	_, _ = r.Read(b)
	return b, oci.DigestOf(oci.SHA256, b)
}

func source(b []byte) cache.FillFunc {
	return func(_ context.Context, want cache.Span) (*cache.Stream, error) {
		end := want.End
		if end < 0 {
			end = int64(len(b))
		}
		return &cache.Stream{Body: io.NopCloser(bytes.NewReader(b[want.Start:end])), Start: want.Start, Size: int64(len(b))}, nil
	}
}

func TestFillSmoke(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	for _, n := range []int{0, 1, 1000, 1 << 20, 1<<20 + 1, 10 << 20} {
		b, d := content(n)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				blob, _, err := c.Fill(cache.Request{Digest: d, Size: -1, From: source(b), Fetches: 4})
				if err != nil {
					t.Error(err)
					return
				}
				defer blob.Close()
				if err := blob.Ready(t.Context()); err != nil {
					t.Error(n, err)
					return
				}
				var got bytes.Buffer
				if _, err := blob.WriteRange(&got, 0, -1); err != nil || !bytes.Equal(got.Bytes(), b) {
					t.Error(n, got.Len(), err)
				}
				if n > 100 {
					got.Reset()
					if _, err := blob.WriteRange(&got, int64(n-50), 50); err != nil || !bytes.Equal(got.Bytes(), b[n-50:]) {
						t.Error(n, got.Len(), err)
					}
				}
			})
		}
		wg.Wait()
	}
	waitIdle(t, c)
}

func waitIdle(t *testing.T, c *cache.Cache) {
	for c.Fills() > 0 {
	}
}
