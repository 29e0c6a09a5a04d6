package cache_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
)

// TestFillSizes fills content of every size at which something changes, with the size known and not, and with sources
// that have no ranges or tell no length.
func TestFillSizes(t *testing.T) {
	cfg := cachetest.Config(t)
	cfg.Dir = memoryDir(t)
	c := cachetest.Open(t, cfg)
	for _, n := range []int{0, 1, holdBack - 1, holdBack, holdBack + 1, smallLimit - 1, smallLimit, smallLimit + 1, smallLimit + holdBack, 3*mib + 7} {
		for _, known := range []bool{false, true} {
			for _, noSize := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d bytes, known %v, told %v", n, known, !noSize), func(t *testing.T) {
					b, d := content(n)
					o := newOrigin(b)
					o.noSize, o.noRanges = noSize, noSize
					r := o.request(d)
					if known {
						r.Size = int64(n)
					}
					wantWhole(t, c, r, b)
					cachetest.Settle(c)
					if n > 0 {
						o.wantOnce(t, 0)
					}
					if size, ok := c.Stat(d); !ok || size != int64(n) {
						t.Errorf("stored %v with %d bytes, want %d", ok, size, n)
					}
					wantWhole(t, c, r, b)
					c.Remove(d)
				})
			}
		}
	}
}

func TestFillSHA512(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	b, _ := content(2 * mib)
	d := oci.DigestOf(oci.SHA512, b)
	wantWhole(t, c, newOrigin(b).request(d), b)
	cachetest.Settle(c)
	stored, err := c.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	if stored.Tier() != cache.TierDisk || stored.Digest() != d || stored.Size() != int64(len(b)) {
		t.Errorf("stored %v of %d bytes in tier %d", stored.Digest(), stored.Size(), stored.Tier())
	}
	wantRange(t, stored, 17, b[17:])
}

// TestFillJoins: the second request joins the fill of the first, the third finds the content.
func TestFillJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(2 * mib)
		o := newOrigin(b)
		open := o.close(mib, 2*mib)
		first, joined, err := c.Fill(o.request(d))
		if err != nil || joined || first.Tier() != cache.TierSource {
			t.Fatalf("first: joined %v, tier %d, error %v", joined, first.Tier(), err)
		}
		defer first.Close()
		second, joined, err := c.Fill(o.request(d))
		if err != nil || !joined || second.Tier() != cache.TierSource {
			t.Fatalf("second: joined %v, tier %d, error %v", joined, second.Tier(), err)
		}
		defer second.Close()
		open()
		wantRange(t, second, 0, b)
		wantRange(t, first, 0, b)
		cachetest.Settle(c)
		third, _, err := c.Fill(o.request(d))
		if err != nil || third.Tier() != cache.TierDisk {
			t.Fatalf("third: tier %d, error %v", third.Tier(), err)
		}
		defer third.Close()
		o.wantOnce(t, 0)
	})
}

// TestReadyWaitsForTheSource: a status can be sent when the source has answered; for small content only after the verdict.
func TestReadyWaitsForTheSource(t *testing.T) {
	f := func(n int, wantReady bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := cachetest.Open(t, cachetest.Config(t))
			b, d := content(n)
			o := newOrigin(b)
			open := o.close(n-1, n)
			defer open()
			blob := fill(t, c, o.request(d))
			ready := make(chan error, 1)
			go func() { ready <- blob.Ready(t.Context()) }()
			synctest.Wait()
			if got := len(ready) == 1; got != wantReady {
				t.Errorf("%d bytes: ready before the last byte: %v, want %v", n, got, wantReady)
			}
			open()
			if err := <-ready; err != nil {
				t.Error(err)
			}
			if blob.Size() != int64(n) {
				t.Errorf("size %d, want %d", blob.Size(), n)
			}
		})
	}
	f(1000, false)
	f(smallLimit, false)
	f(smallLimit+1, true)
}

func TestReadyEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(1000)
		o := newOrigin(b)
		open := o.close(0, 1000)
		defer open()
		blob := fill(t, c, o.request(d))
		ctx, cancel := contextWithTimeout(t, time.Second)
		defer cancel()
		if err := blob.Ready(ctx); !errors.Is(err, errGaveUp) {
			t.Errorf("got %v, want the cause of the context", err)
		}
	})
}

// TestHoldBack: before the verdict, a reader of everything has everything but the last block; a reader of a range that
// does not come to the end has its range.
func TestHoldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		const n = 3 * mib
		b, d := content(n)
		o := newOrigin(b)
		open := o.close(n-1, n)
		whole := start(fill(t, c, o.request(d)), b, 0, -1)
		exact := start(fill(t, c, o.request(d)), b, 0, n)
		synctest.Wait()
		resumed := start(fill(t, c, o.request(d)), b, mib, -1)
		ranged := start(fill(t, c, o.request(d)), b, mib, mib)
		synctest.Wait()
		for _, r := range []struct {
			name string
			*reading
			want int
		}{
			{"whole", whole, n - holdBack}, {"exact", exact, n - holdBack}, {"resumed", resumed, n - holdBack - mib},
			{"ranged", ranged, mib},
		} {
			if got := r.count(); got != r.want {
				t.Errorf("%s reader has %d bytes before the verdict, want %d", r.name, got, r.want)
			}
		}
		ranged.complete(t)
		open()
		whole.complete(t)
		exact.complete(t)
		resumed.complete(t)
	})
}

// TestSmallIsHeldBackWhole: not even a range of small content goes out before the verdict.
func TestSmallIsHeldBackWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(smallLimit)
		o := newOrigin(b)
		open := o.close(smallLimit-1, smallLimit)
		whole, ranged := start(fill(t, c, o.request(d)), b, 0, -1), start(fill(t, c, o.request(d)), b, 10, 10)
		synctest.Wait()
		if got := whole.count() + ranged.count(); got != 0 {
			t.Errorf("%d bytes went out before the verdict", got)
		}
		open()
		whole.complete(t)
		ranged.complete(t)
	})
}

// TestUnknownSize: content streams while its length is unknown, always a block behind.
func TestUnknownSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		const n = 3 * mib
		b, d := content(n)
		o := newOrigin(b)
		o.noSize, o.noRanges = true, true
		open := o.close(2*mib, n)
		blob := fill(t, c, o.request(d))
		whole, ranged := start(blob, b, 0, -1), start(fill(t, c, o.request(d)), b, 100, 1000)
		synctest.Wait()
		if got := whole.count(); got != 2*mib-holdBack {
			t.Errorf("reader has %d bytes, want %d", got, 2*mib-holdBack)
		}
		if blob.Size() != -1 {
			t.Errorf("size is %d before the end, want -1", blob.Size())
		}
		ranged.complete(t)
		open()
		whole.complete(t)
		if blob.Size() != n {
			t.Errorf("size is %d after the end, want %d", blob.Size(), n)
		}
	})
}

// TestRangeBeyondTheEnd is a caller's mistake and gets an error, not a short answer.
func TestRangeBeyondTheEnd(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	b, d := content(2 * mib)
	unknown := newOrigin(b)
	unknown.noSize, unknown.noRanges = true, true
	blob := fill(t, c, unknown.request(d))
	if n, err := blob.WriteRange(new(bytes.Buffer), 2*mib-10, 11); err == nil || n != 10 {
		t.Errorf("growing: wrote %d bytes without an error", n)
	}
	cachetest.Settle(c)
	for _, span := range []cache.Span{{Start: 2*mib - 10, End: 2*mib + 1}, {Start: 2*mib + 1, End: 2 * mib}, {Start: -1, End: 1}, {Start: 1, End: math.MinInt64}} {
		if n, err := fill(t, c, unknown.request(d)).WriteRange(new(bytes.Buffer), span.Start, span.Len()); err == nil || n != 0 {
			t.Errorf("complete: wrote %d bytes of %v without an error", n, span)
		}
	}
}

// TestSizeShrinks: a source that has told no length tells one that is below what has come already.
func TestSizeShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(2 * mib)
		o := newOrigin(b)
		o.noSize, o.cuts = true, []int64{mib + mib/2}
		r := o.request(d)
		r.From = shrinking(o)
		reader := start(fill(t, c, r), b, 0, -1)
		reader.short(t, cache.ErrWrongContent)
	})
}

func TestPut(t *testing.T) {
	cfg := cachetest.Config(t)
	c := cachetest.Open(t, cfg)
	for _, n := range []int{0, 1, 5000, 2 * mib} {
		b, d := content(n)
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
		if err := c.Put(d, b); err != nil {
			t.Errorf("second time: %v", err)
		}
		blob, err := c.Open(d)
		if err != nil {
			t.Fatal(err)
		}
		wantRange(t, blob, 0, b)
		if err := blob.Close(); err != nil {
			t.Error(err)
		}
	}
	b, _ := content(10)
	_, other := content(11)
	if err := c.Put(other, b); !errors.Is(err, cache.ErrWrongContent) {
		t.Errorf("put of other bytes: %v, want ErrWrongContent", err)
	}
	if _, err := c.Open(other); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("open of what was refused: %v, want ErrNotFound", err)
	}
}

// TestPutBesideFill: content is put while a fill of it runs, which then works, or fails. Neither leaves anything behind.
func TestPutBesideFill(t *testing.T) {
	f := func(name string, fails bool) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			c := cachetest.Open(t, cachetest.Config(t))
			b, d := content(2 * mib)
			o := newOrigin(b)
			open := o.close(mib, 2*mib)
			reader := start(fill(t, c, o.request(d)), b, 0, -1)
			if err := c.Put(d, b); err != nil {
				t.Error(err)
			}
			if fails {
				o.set(func(o *origin) { o.wrong = []int64{2*mib - 1} })
			}
			open()
			<-reader.done
			if got := reader.err != nil; got != fails {
				t.Errorf("the fill ended with %v", reader.err)
			}
		})
	}
	f("the fill works", false)
	f("the fill fails", true)
}

// TestCloseDuringFills: whoever waits for bytes gets an error, nothing hangs, and what comes later is refused.
func TestCloseDuringFills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Unchecked(t, cachetest.Config(t))
		b, d := content(2 * mib)
		o := newOrigin(b)
		open := o.close(mib, 2*mib)
		defer open()
		reader := start(fill(t, c, o.request(d)), b, 0, -1)
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		reader.short(t, cache.ErrClosed)
		if _, _, err := c.Fill(o.request(d)); !errors.Is(err, cache.ErrClosed) {
			t.Errorf("fill after close: %v, want ErrClosed", err)
		}
		if err := c.Put(d, b); !errors.Is(err, cache.ErrClosed) {
			t.Errorf("put after close: %v, want ErrClosed", err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}
