package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
)

// TestRangeOfMissingContent: ranges anywhere in content that is not there yet are served while the front stands still; in
// the end every byte has been fetched once.
func TestRangeOfMissingContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		const n = 8 * mib
		b, d := content(n)
		o := newOrigin(b)
		open := o.close(mib, 2*mib)
		r := o.request(d)
		whole := start(fill(t, c, r), b, 0, -1)
		synctest.Wait()
		for _, span := range []cache.Span{{Start: 0, End: 100}, {Start: 3 * mib, End: 3*mib + 1000}, {Start: n - 100*kib, End: n}, {Start: n - 1, End: n}, {Start: 5*mib - 1, End: 6 * mib}} {
			start(fill(t, c, r), b, span.Start, span.Len()).complete(t)
		}
		if got := whole.count(); got != mib {
			t.Errorf("the front has moved: %d bytes", got)
		}
		if got := o.wishCount(); got > 5 {
			t.Errorf("%d requests for five ranges, one of them at the front: %v", got, o.wishes)
		}
		open()
		whole.complete(t)
		cachetest.Settle(c)
		o.wantOnce(t, 4*inFlight)
		if got := o.wishCount(); got > 12 {
			t.Errorf("%d requests in all: %v", got, o.wishes)
		}
	})
}

// TestRangeStartsTheFill: the first request of all is one for a range, in the front, the middle or the tail.
func TestRangeStartsTheFill(t *testing.T) {
	const n = 5 * mib
	b, d := content(n)
	for _, off := range []int64{0, 1, 2 * mib, n - holdBack - 1, n - 1} {
		c := cachetest.Open(t, cachetest.Config(t))
		o := newOrigin(b)
		start(fill(t, c, o.request(d)), b, off, min(n-off, 3*mib)).complete(t)
		cachetest.Settle(c)
		o.wantOnce(t, 3*inFlight)
		wantWhole(t, c, o.request(d), b)
	}
}

// TestRangeNearTheFront waits for the front instead of asking the source again.
func TestRangeNearTheFront(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(3 * mib)
		o := newOrigin(b)
		open := o.close(mib, 3*mib)
		r := o.request(d)
		whole := start(fill(t, c, r), b, 0, -1)
		synctest.Wait()
		near := start(fill(t, c, r), b, mib+100*kib, 1000)
		synctest.Wait()
		open()
		near.complete(t)
		whole.complete(t)
		cachetest.Settle(c)
		if o.wishCount() != 1 {
			t.Errorf("%d requests, want 1: %v", o.wishCount(), o.wishes)
		}
	})
}

// TestOneFetch: a limit of one fetch is kept, ranges wait for the front.
func TestOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(4 * mib)
		o := newOrigin(b)
		open := o.close(mib, 2*mib)
		r := o.request(d)
		r.Fetches = 1
		tail := start(fill(t, c, r), b, 3*mib, mib)
		synctest.Wait()
		if o.wishCount() != 1 || tail.count() != 0 {
			t.Errorf("%d requests and %d bytes while the front stands still", o.wishCount(), tail.count())
		}
		open()
		tail.complete(t)
		cachetest.Settle(c)
		o.wantOnce(t, 0)
	})
}

// TestSourceWithoutRanges answers a range from the start: it is not asked again, and not read twice.
func TestSourceWithoutRanges(t *testing.T) {
	for _, noSize := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := cachetest.Open(t, cachetest.Config(t))
			b, d := content(4 * mib)
			o := newOrigin(b)
			o.noRanges, o.noSize = true, noSize
			open := o.close(mib, 2*mib)
			r := o.request(d)
			readers := []*reading{start(fill(t, c, r), b, 3*mib, mib), start(fill(t, c, r), b, 2*mib, 100), start(fill(t, c, r), b, 0, -1)}
			synctest.Wait()
			open()
			for _, r := range readers {
				r.complete(t)
			}
			cachetest.Settle(c)
			o.wantOnce(t, 0)
		})
	}
}

// TestSourceRefusesRanges: it cannot start in the middle. Readers of ranges wait for the front, and a source that breaks
// off is asked for everything once more, of which only the rest is stored.
func TestSourceRefusesRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(4 * mib)
		o := newOrigin(b)
		o.refuseRanges = fmt.Errorf("range: %w", cache.ErrNoRange)
		o.cuts = []int64{3*mib + 5}
		open := o.close(mib, 2*mib)
		r := o.request(d)
		readers := []*reading{start(fill(t, c, r), b, 3*mib, mib), start(fill(t, c, r), b, 2*mib, 100), start(fill(t, c, r), b, 0, -1)}
		synctest.Wait()
		open()
		for _, r := range readers {
			r.complete(t)
		}
		cachetest.Settle(c)
		if got := o.wishCount(); got > 4 {
			t.Errorf("%d requests: %v", got, o.wishes)
		}
	})
}

// TestRangesRefusedDuringAWrite: while the front writes the last bytes before a limit that another fetch has drawn nearer,
// the source refuses that one, and the limit goes back. What the front had read beyond the limit is dropped, so it must not
// go on with that stream: the next bytes of it belong further on.
func TestRangesRefusedDuringAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		const n, at = 4 * mib, 1600 * kib // not where a read of the front ends
		b, d := content(n)
		o := newOrigin(b)
		open := o.close(mib, n)
		refuse := make(chan struct{})
		r := o.request(d)
		r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
			if want.Start == 0 {
				return o.from(ctx, want)
			}
			<-refuse
			return nil, cache.ErrNoRange
		}
		front := start(fill(t, c, r), b, 0, -1)
		synctest.Wait()
		side := start(fill(t, c, r), b, at, 1000)
		synctest.Wait()
		hold := holdWrite(c, 3) // two whole ones, and the one that ends at the limit
		open()
		synctest.Wait()
		if got := front.count(); got != 1536*kib {
			t.Errorf("the front is held at %d bytes, want %d", got, 1536*kib)
		}
		close(refuse)
		synctest.Wait()
		hold()
		front.complete(t)
		side.complete(t)
		cachetest.Settle(c)
	})
}

// holdWrite lets the turn-th write from now on wait until the function that it returns is called.
func holdWrite(c *cache.Cache, turn int32) (release func()) {
	var writes atomic.Int32
	held := make(chan struct{})
	c.SetFault(func(operation string) error {
		if operation == "write" && writes.Add(1) == turn {
			<-held
		}
		return nil
	})
	return func() { close(held) }
}

// TestSourceRefusesEverything: a source that refuses ranges and everything else ends the fill.
func TestSourceRefusesEverything(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	_, d := content(mib)
	b, _, err := c.Fill(cache.Request{Digest: d, Size: -1, Fetches: 1, From: func(context.Context, cache.Span) (*cache.Stream, error) {
		return nil, cache.ErrNoRange
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Ready(t.Context()); !errors.Is(err, cache.ErrNoRange) {
		t.Error(err)
	}
}

// TestReaderOfTheTailLeaves: a fetch for one reader asks for a bounded piece, so it ends soon after the reader has gone.
func TestReaderOfTheTailLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		const n = 16 * mib
		b, d := content(n)
		o := newOrigin(b)
		open := o.close(mib, 2*mib)
		r := o.request(d)
		blob := fill(t, c, r)
		if _, err := blob.WriteRange(&writer{fail: 100}, 4*mib, -1); err == nil {
			t.Error("the reader got no error of its own")
		}
		_ = blob.Close()
		synctest.Wait()
		const budget = 8 * mib
		if got := o.deliveredBytes(); got > mib+budget+inFlight {
			t.Errorf("%d bytes came, want at most %d for a reader that has left", got, mib+budget+inFlight)
		}
		open()
		cachetest.Settle(c)
		o.wantOnce(t, 2*inFlight)
	})
}

// TestReaderOfTheTailStays: a reader that needs more than one piece gets the next, and a piece stops where somebody else's
// bytes begin.
func TestReaderOfTheTailStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		const n = 14 * mib
		b, d := content(n)
		o := newOrigin(b)
		openFront, openTail := o.close(mib, 2*mib), o.close(11*mib, 12*mib)
		r := o.request(d)
		last := start(fill(t, c, r), b, n-mib, mib)
		synctest.Wait()
		tail := start(fill(t, c, r), b, 2*mib, 12*mib)
		synctest.Wait()
		if got := tail.count(); got != 9*mib {
			t.Errorf("the reader has %d bytes of the 9 MiB that the source delivers", got)
		}
		openTail()
		last.complete(t)
		tail.complete(t)
		openFront()
		cachetest.Settle(c)
		o.wantOnce(t, 3*inFlight)
		if got := o.wishCount(); got > 6 {
			t.Errorf("%d requests: %v", got, o.wishes)
		}
	})
}

// TestManyRanges reads random ranges at once, from a source in chunks of odd sizes.
func TestManyRanges(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	c := cachetest.Open(t, cachetest.Config(t))
	const n = 6 * mib
	b, d := content(n)
	o := newOrigin(b)
	o.chunk = 1 + random.IntN(100_000)
	var readers []*reading
	for range 40 {
		off := random.Int64N(n)
		readers = append(readers, start(fill(t, c, o.request(d)), b, off, random.Int64N(n-off+1)))
	}
	for _, r := range readers {
		r.complete(t)
	}
	cachetest.Settle(c)
	o.wantOnce(t, int64(o.wishCount())*inFlight)
	if t.Failed() {
		t.Logf("seed %d", seed)
	}
	wantWhole(t, c, o.request(d), b)
}

// TestEmptyRange writes nothing and is no error, growing and complete.
func TestEmptyRange(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	b, d := content(2 * mib)
	for range 2 {
		blob := fill(t, c, newOrigin(b).request(d))
		if n, err := blob.WriteRange(new(bytes.Buffer), 100, 0); n != 0 || err != nil {
			t.Errorf("wrote %d bytes, error %v", n, err)
		}
		cachetest.Settle(c)
	}
}
