package cache_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
)

// TestWrongBytes: one wrong byte anywhere is never stored and never part of a complete body. When the source is repaired,
// the right content comes.
func TestWrongBytes(t *testing.T) {
	for _, n := range []int{1000, smallLimit, smallLimit + 1, 3 * mib} {
		for _, at := range []int{0, n / 2, n - 1} {
			t.Run(fmt.Sprintf("byte %d of %d", at, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { wrongByte(t, n, at) })
			})
		}
	}
}

func wrongByte(t *testing.T, n, at int) {
	c := cachetest.Open(t, cachetest.Config(t))
	b, d := content(n)
	o := newOrigin(b)
	o.wrong = []int64{int64(at)}
	open := o.close(0, n)
	r := o.request(d)
	readers := []*reading{start(fill(t, c, r), b, 0, -1), start(fill(t, c, r), b, 0, int64(n))}
	synctest.Wait()
	open()
	for _, reader := range readers {
		reader.short(t, cache.ErrWrongContent)
		if n <= smallLimit && reader.n > 0 {
			t.Errorf("%d bytes of small content went out before the verdict", reader.n)
		}
	}
	cachetest.Settle(c)
	if n <= smallLimit && o.wishCount() != 2 {
		t.Errorf("%d requests for small content, want one automatic retry", o.wishCount())
	}
	if _, stored := c.Stat(d); stored {
		t.Error("wrong content is stored")
	}
	o.set(func(o *origin) { o.wrong = nil })
	wantWhole(t, c, r, b)
}

// TestWrongBytesOnce: small content that comes right the second time is delivered without anybody noticing.
func TestWrongBytesOnce(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	for _, longer := range []int{0, 500} { // the wrong content may also be longer than the right one
		b, d := content(1000 + longer)
		right := b[:1000]
		if longer > 0 {
			_, d = content(1000)
			right, _ = content(1000)
		}
		o, garbage := newOrigin(right), newOrigin(append(slices.Clone(b), 1))
		o.noSize, garbage.noSize = true, true
		r := o.request(d)
		r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
			if garbage.wishCount() == 0 {
				return garbage.from(ctx, want)
			}
			return o.from(ctx, want)
		}
		wantWhole(t, c, r, right)
		cachetest.Settle(c)
		wantWhole(t, c, r, right)
		c.Remove(d)
	}
}

// TestResumedReaderOfWrongContent: a client that was cut resumes where it was cut, again and again. It never completes a
// wrong body, whatever part of it the source gets wrong.
func TestResumedReaderOfWrongContent(t *testing.T) {
	const n = 4 * mib
	for _, at := range []int64{0, n / 2, n - 1} {
		synctest.Test(t, func(t *testing.T) {
			c := cachetest.Open(t, cachetest.Config(t))
			b, d := content(n)
			o := newOrigin(b)
			o.wrong = []int64{at}
			r := o.request(d)
			var have int64
			for try := range 6 {
				reader := start(fill(t, c, r), b, have, -1)
				reader.short(t, cache.ErrWrongContent)
				if try > 0 && reader.n > 0 {
					t.Errorf("try %d: %d bytes of suspect content went out", try, reader.n)
				}
				have += int64(reader.n)
				time.Sleep(5 * time.Second)
			}
			o.set(func(o *origin) { o.wrong = nil })
			start(fill(t, c, r), b, have, -1).complete(t)
			wantWhole(t, c, r, b)
		})
	}
}

// TestSuspicionPasses: a while after wrong bytes, content streams again while it arrives.
func TestSuspicionPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		const n = 3 * mib
		b, d := content(n)
		o := newOrigin(b)
		o.wrong = []int64{n - 1}
		r := o.request(d)
		start(fill(t, c, r), b, 0, -1).short(t, cache.ErrWrongContent)
		time.Sleep(2 * time.Minute)
		open := o.close(n-1, n)
		o.set(func(o *origin) { o.wrong = nil })
		reader := start(fill(t, c, r), b, 0, -1)
		synctest.Wait()
		if got := reader.count(); got != n-holdBack {
			t.Errorf("%d bytes went out before the last one came, want %d", got, n-holdBack)
		}
		open()
		reader.complete(t)
	})
}

// TestWrongAnnouncement: a source that announces another size, or starts somewhere else, is refused before the first byte.
func TestWrongAnnouncement(t *testing.T) {
	b, d := content(2 * mib)
	f := func(name string, change func(*cache.Stream)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			c := cachetest.Open(t, cachetest.Config(t))
			o := newOrigin(b)
			r := o.request(d)
			r.Size = 2 * mib
			r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
				s, err := o.from(ctx, want)
				change(s)
				return s, err
			}
			if got, err := read(t.Context(), fill(t, c, r), 0, -1); len(got) > 0 || !errors.Is(err, cache.ErrWrongContent) {
				t.Errorf("got %d bytes and %v, want ErrWrongContent", len(got), err)
			}
			cachetest.Settle(c)
			if o.open != 0 {
				t.Errorf("%d bodies were not closed", o.open)
			}
			wantWhole(t, c, o.request(d), b)
		})
	}
	f("longer", func(s *cache.Stream) { s.Size++ })
	f("shorter", func(s *cache.Stream) { s.Size-- })
	f("later start", func(s *cache.Stream) { s.Start = 1 })
	f("negative start", func(s *cache.Stream) { s.Start = -1 })
}

// TestClaimedLength: a length that somebody claims is no reason to refuse content with the right digest, and stands in for
// one that the source does not tell.
func TestClaimedLength(t *testing.T) {
	for name, noSize := range map[string]bool{"source tells another": false, "source tells none": true} {
		t.Run(name, func(t *testing.T) {
			c := cachetest.Open(t, cachetest.Config(t))
			b, d := content(3 * mib)
			o := newOrigin(b)
			o.noSize = noSize
			r := o.request(d)
			r.Hint = 3 * mib
			if !noSize {
				r.Hint = 5
			}
			blob := fill(t, c, r)
			if err := blob.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			if blob.Size() != 3*mib {
				t.Errorf("size %d, want %d", blob.Size(), 3*mib)
			}
			start(blob, b, 0, -1).complete(t)
		})
	}
	t.Run("source tells none, claim is wrong", func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(3 * mib)
		o := newOrigin(b)
		o.noSize = true
		r := o.request(d)
		r.Hint = 2 * mib
		blob := fill(t, c, r)
		defer blob.Close()
		h := d.Hash()
		if n, err := blob.WriteRange(h, 0, -1); err == nil || n >= 2*mib {
			t.Errorf("a reader got %d bytes and %v of content that is cut at a claim", n, err)
		}
	})
}
