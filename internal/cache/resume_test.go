package cache_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
)

// TestSourceBreaksOff: the fill goes on at the first missing byte, however often, and readers see nothing.
func TestSourceBreaksOff(t *testing.T) {
	for _, n := range []int{1000, 3 * mib} {
		for _, count := range []int{1, 3, 20} {
			synctest.Test(t, func(t *testing.T) {
				seed := rand.Uint64()
				random := rand.New(rand.NewPCG(seed, 0))
				c := cachetest.Open(t, cachetest.Config(t))
				b, d := content(n)
				o := newOrigin(b)
				for range count {
					o.cuts = append(o.cuts, random.Int64N(int64(n)))
				}
				readers := []*reading{start(fill(t, c, o.request(d)), b, 0, -1), start(fill(t, c, o.request(d)), b, int64(n/2), -1)}
				for _, r := range readers {
					r.complete(t)
				}
				cachetest.Settle(c)
				o.wantOnce(t, inFlight)
				if t.Failed() {
					t.Logf("seed %d, %d cuts", seed, count)
				}
			})
		}
	}
}

// TestSourceStalls: a source that delivers nothing for a while is overtaken at the same place, within ten seconds.
func TestSourceStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(3 * mib)
		o := newOrigin(b)
		o.stalls = []int64{0, 2 * mib}
		begin := time.Now()
		start(fill(t, c, o.request(d)), b, 0, -1).complete(t)
		if took := time.Since(begin); took < 16*time.Second || took > 20*time.Second {
			t.Errorf("two stalls took %v, want about 8 s each", took)
		}
		cachetest.Settle(c)
		o.wantOnce(t, 0)
	})
}

// TestSourceDrips: a source that delivers next to nothing counts as broken, and loses nothing that it has delivered.
func TestSourceDrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(2 * mib)
		o := newOrigin(b)
		o.chunk = 100
		r := o.request(d)
		r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
			s, err := o.from(ctx, want)
			if o.wishCount() == 1 {
				s.Body = slowBody{s.Body}
			} else {
				o.set(func(o *origin) { o.chunk = 0 })
			}
			return s, err
		}
		begin := time.Now()
		start(fill(t, c, r), b, 0, -1).complete(t)
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("it took %v", took)
		}
		cachetest.Settle(c)
		o.wantOnce(t, 0)
	})
}

// slowBody delivers once a second.
type slowBody struct{ io.ReadCloser }

func (s slowBody) Read(b []byte) (int, error) {
	time.Sleep(time.Second)
	return s.ReadCloser.Read(b)
}

// TestSourceIsDown: the error comes before the first byte, and at once; the source has done its own retries.
func TestSourceIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(3 * mib)
		o := newOrigin(b)
		o.down = errDown
		begin := time.Now()
		if got, err := read(t.Context(), fill(t, c, o.request(d)), 0, -1); len(got) > 0 || !errors.Is(err, errDown) {
			t.Errorf("got %d bytes and %v, want the error of the source", len(got), err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("the error took %v", took)
		}
		o.set(func(o *origin) { o.down = nil })
		wantWhole(t, c, o.request(d), b)
	})
}

// TestSourceGoesDown: readers get a short body, and the next fill brings what is missing and no more. A reader of what is
// there does not wait for the source.
func TestSourceGoesDown(t *testing.T) {
	for _, noSize := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := cachetest.Open(t, cachetest.Config(t))
			b, d := content(3 * mib)
			o := newOrigin(b)
			o.noSize = noSize
			o.cuts = []int64{2 * mib}
			open := o.close(mib, 2*mib)
			reader := start(fill(t, c, o.request(d)), b, 0, -1)
			synctest.Wait()
			o.set(func(o *origin) { o.down = errDown })
			open()
			reader.short(t, errDown)
			cachetest.Settle(c)
			if err := c.Check(t.Context()); err != nil {
				t.Error(err)
			}

			o.set(func(o *origin) { o.down = nil })
			open = o.close(2*mib, 3*mib)
			ranged, whole := start(fill(t, c, o.request(d)), b, mib/2, mib), start(fill(t, c, o.request(d)), b, 0, -1)
			ranged.complete(t)
			open()
			whole.complete(t)
			cachetest.Settle(c)
			o.wantOnce(t, 0)
		})
	}
}

// TestRestingPartsPass: what a failed fill has left is dropped after an hour, and when there are too many.
func TestRestingPartsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		leave := func(n int) (*origin, cache.Request) {
			b, d := content(n)
			o := newOrigin(b)
			o.cuts = []int64{1000, 1001, 1002, 1003, 1004, 1005, 1006}
			r := o.request(d)
			r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
				if o.wishCount() > 0 {
					return nil, errDown
				}
				return o.from(ctx, want)
			}
			_ = fill(t, c, r).Ready(t.Context())
			cachetest.Settle(c)
			return o, o.request(d)
		}
		first, r := leave(5000)
		for i := range 256 {
			leave(2000 + i)
		}
		if err := c.Check(t.Context()); err != nil {
			t.Error(err)
		}
		first.cuts = nil
		wantWhole(t, c, r, first.content)
		if got := first.deliveredBytes(); got != 6000 {
			t.Errorf("%d bytes were delivered for the oldest part, want all anew", got)
		}
		last, r := leave(4000)
		time.Sleep(2 * time.Hour)
		last.cuts = nil
		wantWhole(t, c, r, last.content)
		if got := last.deliveredBytes(); got != 5000 {
			t.Errorf("%d bytes were delivered for an old part, want all anew", got)
		}
	})
}

// TestRestingPartOfAnotherSize is not continued: one of the two sizes is wrong.
func TestRestingPartOfAnotherSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(3 * mib)
		o := newOrigin(b)
		lie := o.request(d)
		lie.Size = 2 * mib
		lie.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
			if o.wishCount() > 0 {
				return nil, errDown
			}
			s, err := o.from(ctx, want)
			s.Size = 2 * mib
			return s, err
		}
		o.cuts = []int64{mib + mib/2}
		start(fill(t, c, lie), b, 0, -1).short(t, errDown)
		r := o.request(d)
		r.Size = 3 * mib
		wantWhole(t, c, r, b)
		cachetest.Settle(c)
		if got := o.deliveredBytes(); got != 4*mib+mib/2 {
			t.Errorf("%d bytes were delivered, want all anew", got)
		}
	})
}

// TestRestingPartOfUnknownSize is continued when the request knows the size, if it can be that size.
func TestRestingPartOfUnknownSize(t *testing.T) {
	f := func(size, wantDelivered int64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := cachetest.Open(t, cachetest.Config(t))
			b, d := content(3 * mib)
			o := newOrigin(b)
			r := o.request(d)
			r.From = onlyUpTo(o, 2*mib)
			o.noSize = true
			start(fill(t, c, r), b, 0, -1).short(t, errDown)
			r = o.request(d)
			r.Size = size
			got, err := read(t.Context(), fill(t, c, r), 0, -1)
			if right := size == int64(len(b)); right != (err == nil) || int64(len(got)) >= size && !right {
				t.Errorf("size %d: got %d bytes and %v", size, len(got), err)
			}
			cachetest.Settle(c)
			if got := o.deliveredBytes(); got != wantDelivered {
				t.Errorf("size %d: %d bytes were delivered, want %d", size, got, wantDelivered)
			}
		})
	}
	f(3*mib, 3*mib)
	f(mib+mib/2, 2*mib+mib+mib/2) // less than rests already: all anew
}
