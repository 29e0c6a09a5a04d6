package cache_test

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
)

// rejecting counts how often the cache rejects what came from the origin. When drips is set, the first answer drips.
func rejecting(o *origin, drips bool, rejects *atomic.Int32) cache.FillFunc {
	return func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
		s, err := o.from(ctx, want)
		if err != nil {
			return nil, err
		}
		s.Reject = func() { rejects.Add(1) }
		if drips && o.wishCount() == 1 {
			o.set(func(o *origin) { o.chunk = 100 })
			s.Body = slowBody{s.Body}
		} else {
			o.set(func(o *origin) { o.chunk = 0 })
		}
		return s, nil
	}
}

// TestSourceIsRejected: a source is told when what it delivers is no good, so that it can go elsewhere. A body that breaks
// off it has seen by itself.
func TestSourceIsRejected(t *testing.T) {
	f := func(name string, n int, drips bool, script func(*origin), want int32) {
		t.Helper()
		b, d := content(n)
		for _, way := range []string{"fill", "pass"} {
			t.Run(way+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := cachetest.Open(t, cachetest.Config(t))
					o := newOrigin(b)
					script(o)
					var rejects atomic.Int32
					r := o.request(d)
					r.From = rejecting(o, drips, &rejects)
					blob := c.Pass(r)
					if way == "fill" {
						_ = blob.Close()
						blob = fill(t, c, r)
					}
					start(blob, b, 0, -1).complete(t)
					if got := rejects.Load(); got != want {
						t.Errorf("rejected %d times, want %d", got, want)
					}
				})
			})
		}
	}
	f("all is well", 2*mib, false, func(*origin) {}, 0)
	f("breaks off", 2*mib, false, func(o *origin) { o.cuts = []int64{mib} }, 0)
	f("stalls", 2*mib, false, func(o *origin) { o.stalls = []int64{mib} }, 1)
	f("drips", 2*mib, true, func(*origin) {}, 1)
}

// TestWrongBytesAreRejected: small content is asked for once more, by then elsewhere.
func TestWrongBytesAreRejected(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	b, d := content(1000)
	o := newOrigin(b)
	o.wrong = []int64{3}
	var rejects atomic.Int32
	r := o.request(d)
	from := rejecting(o, false, &rejects)
	r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
		if rejects.Load() > 0 {
			o.set(func(o *origin) { o.wrong = nil })
		}
		return from(ctx, want)
	}
	wantWhole(t, c, r, b)
	if got := rejects.Load(); got != 1 {
		t.Errorf("rejected %d times, want once", got)
	}
}

// TestSlowReaderOfPass: a client that takes its time is no reason to leave a source.
func TestSlowReaderOfPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(2 * mib)
		o := newOrigin(b)
		o.chunk = 100 * kib
		var rejects atomic.Int32
		r := o.request(d)
		r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
			s, err := o.from(ctx, want)
			if err == nil {
				s.Reject = func() { rejects.Add(1) }
			}
			return s, err
		}
		blob := c.Pass(r)
		defer blob.Close()
		if err := blob.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got slowWriter
		if _, err := blob.WriteRange(&got, 0, -1); err != nil || !bytes.Equal(got.Bytes(), b) {
			t.Errorf("got %d bytes, %v", got.Len(), err)
		}
		if rejects.Load() != 0 || o.wishCount() != 1 {
			t.Errorf("rejected %d times, %d requests", rejects.Load(), o.wishCount())
		}
	})
}

// slowWriter takes a minute for each piece.
type slowWriter struct{ bytes.Buffer }

func (w *slowWriter) Write(b []byte) (int, error) {
	time.Sleep(time.Minute)
	return w.Buffer.Write(b)
}

// TestSlowDiskIsNotTheSourcesFault: a disk that takes its time over each write holds up the fill, and the source neither
// gets the blame nor a second request.
func TestSlowDiskIsNotTheSourcesFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(2 * mib)
		o := newOrigin(b)
		var rejects atomic.Int32
		r := o.request(d)
		r.From = rejecting(o, false, &rejects)
		c.SetFault(func(operation string) error {
			if operation == "write" {
				time.Sleep(20 * time.Second) // longer than a source may deliver nothing
			}
			return nil
		})
		wantWhole(t, c, r, b)
		cachetest.Settle(c)
		o.wantOnce(t, 0)
		if n := rejects.Load(); n != 0 {
			t.Errorf("rejected %d times, want 0", n)
		}
	})
}
