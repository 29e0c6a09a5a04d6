package cache_test

import (
	"context"
	"sync"
	"testing"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
)

// TestPutMeetsAFill: a fill of the same content begins while content is put. The file that was put is not wanted any more,
// and keeps its room until it is gone: a crash before that must not find more on the disk than the limit allows.
func TestPutMeetsAFill(t *testing.T) {
	cfg := cachetest.Config(t)
	c := cachetest.Open(t, cfg)
	b, d := content(2 * mib)
	answer := make(chan struct{})
	r := newOrigin(b).request(d)
	from := r.From
	r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
		<-answer
		return from(ctx, want)
	}
	var blob *cache.Blob
	var begin, look sync.Once
	looked := false
	c.SetFault(func(operation string) error {
		switch operation {
		case "write":
			begin.Do(func() { blob = fill(t, c, r) })
		case "unlink":
			look.Do(func() {
				looked = true
				if used, err := usage(cfg.Dir); err != nil || used > c.Taken() {
					t.Errorf("%d bytes are on the disk, %v, and %d accounted for", used, err, c.Taken())
				}
			})
		}
		return nil
	})
	if err := c.Put(d, b); err != nil {
		t.Error(err)
	}
	if !looked {
		t.Error("the file that was put was not unlinked")
	}
	close(answer)
	wantRange(t, blob, 0, b)
}
