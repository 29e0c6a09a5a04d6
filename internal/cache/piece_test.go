package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/units"
)

// piece opens a piece, which must work.
func piece(t *testing.T, c *cache.Cache, r cache.Request, span cache.Span) *cache.Piece {
	t.Helper()
	p, err := c.Piece(r, span)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// wantPiece waits for a piece, fails the test unless it delivers its bytes of b, and closes it.
func wantPiece(t *testing.T, p *cache.Piece, b []byte) {
	t.Helper()
	if err := p.Wait(t.Context()); err != nil {
		t.Error(err)
		return
	}
	span := p.Span()
	var got bytes.Buffer
	n, err := p.WriteTo(&got)
	if err != nil || n != int64(got.Len()) || !bytes.Equal(got.Bytes(), b[span.Start:span.End]) {
		t.Errorf("piece %v: wrote %d bytes, %d came, error %v", span, n, got.Len(), err)
	}
	if p.Size() != int64(len(b)) {
		t.Errorf("piece %v: size %d, want %d", span, p.Size(), len(b))
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// pieceError returns why a piece is not delivered, which may be known when it is opened, or later.
func pieceError(t *testing.T, c *cache.Cache, r cache.Request, span cache.Span) error {
	t.Helper()
	p, err := c.Piece(r, span)
	if err != nil {
		return err
	}
	defer p.Close()
	if n, err := p.WriteTo(new(bytes.Buffer)); n != 0 || err == nil {
		t.Errorf("wrote %d bytes of a piece, error %v", n, err)
	}
	return p.Wait(t.Context())
}

// TestPieceOfStoredContent comes from where the content is, whatever becomes of that meanwhile.
func TestPieceOfStoredContent(t *testing.T) {
	cfg := cachetest.Config(t)
	c := cachetest.Open(t, cfg)
	for _, n := range []int{0, 1000, 3*mib + 5} {
		b, d := content(n)
		o := newOrigin(b)
		wantWhole(t, c, o.request(d), b)
		cachetest.Settle(c)
		o.set(func(o *origin) { o.down = errDown })
		for _, span := range []cache.Span{{Start: 0, End: -1}, {Start: 0, End: 64 * mib}, {Start: int64(n / 2), End: int64(n/2) + 100}} {
			p := piece(t, c, o.chunked(d), span)
			if !p.Held() || p.Moving() {
				t.Errorf("piece %v of %d bytes: held %v, moving %v", span, n, p.Held(), p.Moving())
			}
			wantPiece(t, p, b)
		}
		if _, err := c.Piece(o.chunked(d), cache.Span{Start: int64(n) + 1, End: int64(n) + 2}); !errors.Is(err, cache.ErrNoSpan) {
			t.Errorf("piece behind %d bytes: %v", n, err)
		}
		p := piece(t, c, o.chunked(d), cache.Span{Start: 0, End: -1})
		c.Remove(d)
		wantPiece(t, p, b)
	}
}

// TestPieceOfArrivingContent is fetched before what nobody waits for, beyond the usual number of fetches, and goes out before
// the content is verified, the last block included.
func TestPieceOfArrivingContent(t *testing.T) {
	for name, change := range map[string]func(*cache.Request){
		"in chunks": func(*cache.Request) {}, "not in chunks": func(r *cache.Request) { r.Chunk, r.Fetches = 0, 4 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := cachetest.Open(t, cachetest.Config(t))
				const n = 100*chunk - 7
				b, d := content(n)
				o := newOrigin(b)
				front, tail := o.close(chunk/2, 90*chunk), o.close(99*chunk+50, n)
				r := o.chunked(d)
				change(&r)
				whole := start(fill(t, c, r), b, 0, -1)
				synctest.Wait()
				before := o.wishCount()
				first, last := piece(t, c, o.chunked(d), cache.Span{Start: 0, End: 100}), piece(t, c, o.chunked(d), chunkOf(99))
				synctest.Wait()
				if asked := o.wishCount() - before; asked > 1 {
					t.Errorf("%d requests for one piece that was not on its way: %v", asked, o.seen()[before:])
				}
				if !first.Held() || first.Moving() || last.Held() || !last.Moving() {
					t.Errorf("held %v and %v, moving %v and %v", first.Held(), last.Held(), first.Moving(), last.Moving())
				}
				wantPiece(t, first, b)
				tail()
				wantPiece(t, last, b)
				if p := c.Filling()[0]; p.Pieces != 0 || p.Readers != 1 || whole.count() > chunk {
					t.Errorf("%+v, %d bytes read", p, whole.count())
				}
				front()
				whole.complete(t)
				cachetest.Settle(c)
				o.wantOnce(t, 4*inFlight)
			})
		})
	}
}

// TestPieceExceedsFetches: those who wait for pieces are not made to wait for a client's fetches.
func TestPieceExceedsFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(100 * chunk)
		o := newOrigin(b)
		stuck := o.close(0, 90*chunk)
		whole := start(fill(t, c, o.chunked(d)), b, 0, -1)
		synctest.Wait()
		for i := int64(90); i < 94; i++ {
			wantPiece(t, piece(t, c, o.chunked(d), chunkOf(i)), b)
		}
		if got := o.wishCount(); got != 12 {
			t.Errorf("%d requests, want 8 that are stuck and 4 for pieces: %v", got, o.seen())
		}
		stuck()
		whole.complete(t)
		o.wantOnce(t, 0)
		o.wantInChunks(t)
	})
}

// TestPieceIsNotMoving as long as the source does not deliver, or says that it does not.
func TestPieceIsNotMoving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(10 * chunk)
		o := newOrigin(b)
		gate := o.close(0, len(b))
		answer, moving := make(chan struct{}), false
		r := o.chunked(d)
		r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
			<-answer
			s, err := o.from(ctx, want)
			s.Moving = func() bool { return moving }
			return s, err
		}
		p := piece(t, c, r, chunkOf(2))
		want := func(want bool) {
			t.Helper()
			synctest.Wait()
			if got := p.Moving(); got != want {
				t.Errorf("moving: %v", got)
			}
		}
		want(false)
		close(answer)
		want(false)
		moving = true
		want(true)
		gate()
		wantPiece(t, p, b)
	})
}

// TestHeldBeforeAnything: asking starts nothing.
func TestHeldBeforeAnything(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	_, d := content(10 * chunk)
	if size, ok := c.Held(d, chunkOf(0)); ok || size != -1 || c.Fills() != 0 {
		t.Errorf("held %v of %d, %d fills", ok, size, c.Fills())
	}
}

// TestPieceOfWrongContent fails as soon as the content is known to be wrong, and as long as that may be so again.
func TestPieceOfWrongContent(t *testing.T) {
	const n = 60 * chunk
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(n)
		o := newOrigin(b)
		o.wrong = []int64{5}
		r := o.chunked(d)
		last := o.close(n-chunk, n)
		reader := start(fill(t, c, r), b, 0, -1)
		synctest.Wait()
		early, late := piece(t, c, r, chunkOf(7)), piece(t, c, r, cache.Span{Start: 0, End: n})
		wantPiece(t, early, b)
		late.Close()
		last()
		reader.short(t, cache.ErrWrongContent)
		cachetest.Settle(c)
		if _, err := c.Piece(r, chunkOf(7)); !errors.Is(err, cache.ErrSuspect) {
			t.Errorf("piece of suspect content: %v", err)
		}
		if _, ok := c.Held(d, chunkOf(7)); ok {
			t.Error("wrong content is held")
		}
		last = o.close(n-chunk, n)
		reader = start(fill(t, c, r), b, 0, -1)
		synctest.Wait()
		if _, err := c.Piece(r, chunkOf(7)); !errors.Is(err, cache.ErrSuspect) {
			t.Errorf("piece of suspect content that is fetched again: %v", err)
		}
		if _, ok := c.Held(d, chunkOf(7)); ok {
			t.Error("suspect content is held")
		}
		o.set(func(o *origin) { o.wrong = nil })
		last()
		<-reader.done
		time.Sleep(2 * time.Minute)
		wantPiece(t, piece(t, c, r, chunkOf(7)), b)
	})
}

// TestSpanOfPieceStays what it was when Wait returned, also while content of unknown length is fetched anew: it was wrong.
func TestSpanOfPieceStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(chunk + 100)
		o := newOrigin(b)
		o.wrong = []int64{5}
		wrong, right := o.close(0, chunk), make(chan struct{})
		var again atomic.Bool
		r := o.chunked(d)
		r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
			if again.Load() {
				<-right
			}
			return o.from(ctx, want)
		}
		reader := start(fill(t, c, r), b, 0, -1)
		p := piece(t, c, r, chunkOf(1))
		if err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		again.Store(true)
		wrong()
		synctest.Wait()
		if size := p.Size(); size != -1 {
			t.Fatalf("the content of %d bytes is not fetched anew: size %d", len(b), size)
		}
		if want := (cache.Span{Start: chunk, End: int64(len(b))}); p.Span() != want {
			t.Errorf("the piece is %v now, was %v", p.Span(), want)
		}
		if n, err := p.WriteTo(io.Discard); err == nil || n > 100 {
			t.Errorf("wrote %d bytes of a piece whose content is gone, error: %v", n, err)
		}
		p.Close()
		o.set(func(o *origin) { o.wrong = nil })
		close(right)
		reader.complete(t)
	})
}

// TestPieceDuringTheVerdict of wrong content fails, before the readers are cut.
func TestPieceDuringTheVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(60 * chunk)
		o := newOrigin(b)
		o.wrong = []int64{5}
		r := o.chunked(d)
		judged := make(chan struct{})
		r.Verdict = verdictThat(judged)
		reader := start(fill(t, c, r), b, 0, -1)
		synctest.Wait()
		if _, err := c.Piece(r, chunkOf(7)); !errors.Is(err, cache.ErrWrongContent) {
			t.Errorf("piece of wrong content: %v", err)
		}
		close(judged)
		reader.short(t, cache.ErrWrongContent)
	})
}

// TestPieceWithoutRoom fails, so that whoever asks goes elsewhere.
func TestPieceWithoutRoom(t *testing.T) {
	f := func(name string, want error, prepare func(*cache.Cache, *cache.Config)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := cachetest.Config(t)
				prepare(nil, &cfg)
				c := cachetest.Open(t, cfg)
				prepare(c, &cfg)
				b, d := content(40 * chunk)
				r := newOrigin(b).chunked(d)
				if err := pieceError(t, c, r, chunkOf(3)); !errors.Is(err, want) {
					t.Errorf("piece: %v, want %v", err, want)
				}
			})
		})
	}
	f("limit", cache.ErrNoRoom, func(_ *cache.Cache, cfg *cache.Config) { cfg.MaxSize = chunk / 2 })
	f("file system", cache.ErrNoRoom, func(c *cache.Cache, _ *cache.Config) {
		if c != nil {
			c.SetSpace(func() (free, all int64) { return chunk / 2, int64(units.GiB) })
		}
	})
	f("disk", cache.ErrDisk, func(c *cache.Cache, _ *cache.Config) {
		if c != nil {
			c.SetFault(func(operation string) error {
				if operation == "write" {
					return syscall.EIO
				}
				return nil
			})
		}
	})
}

// TestPieceWaitsInVain: the context ends, or the cache does.
func TestPieceWaitsInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Unchecked(t, cachetest.Config(t))
		b, d := content(10 * chunk)
		o := newOrigin(b)
		o.close(0, len(b))
		p := piece(t, c, o.chunked(d), chunkOf(1))
		ctx, cancel := contextWithTimeout(t, time.Second)
		defer cancel()
		if err := p.Wait(ctx); !errors.Is(err, errGaveUp) {
			t.Errorf("wait with a context that ends: %v", err)
		}
		over := make(chan error)
		go func() { over <- p.Wait(context.Background()) }()
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := <-over; !errors.Is(err, cache.ErrClosed) {
			t.Errorf("wait while the cache is closed: %v", err)
		}
		if _, err := c.Piece(o.chunked(d), chunkOf(1)); !errors.Is(err, cache.ErrClosed) {
			t.Errorf("piece of a closed cache: %v", err)
		}
	})
}

// TestPieceOfNothing: spans that cannot be, and requests without chunks.
func TestPieceOfNothing(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	b, d := content(10 * chunk)
	r := newOrigin(b).chunked(d)
	for _, span := range []cache.Span{{Start: -1, End: 5}, {Start: 5, End: 4}, {Start: 1<<63 - 1, End: -1}} {
		if _, err := c.Piece(r, span); !errors.Is(err, cache.ErrNoSpan) {
			t.Errorf("piece %v: %v", span, err)
		}
	}
	r.Chunk = 0
	if _, err := c.Piece(r, chunkOf(0)); err == nil {
		t.Error("a piece without chunks")
	}
}

// TestWriteRangeOfPiece writes any part of the piece, and nothing beyond.
func TestWriteRangeOfPiece(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(10*chunk - 5)
		p := piece(t, c, newOrigin(b).chunked(d), chunkOf(9))
		f := func(off, n int64, ok bool) {
			t.Helper()
			var got bytes.Buffer
			if _, err := p.WriteRange(&got, off, n); (err == nil) != ok || ok && !bytes.Equal(got.Bytes(), b[off:off+n]) {
				t.Errorf("[%d, %d): %d bytes, %v", off, off+n, got.Len(), err)
			}
		}
		f(9*chunk, chunk-5, true)
		f(9*chunk+10, 20, true)
		f(10*chunk-5, 0, true)
		f(9*chunk-1, 20, false)
		f(9*chunk, chunk, false)
		f(9*chunk, -1, false)
	})
}

// wantWishes fails the test unless exactly these spans were asked for, in any order.
func (o *origin) wantWishes(t *testing.T, want ...cache.Span) {
	t.Helper()
	got := o.seen()
	byStart := func(a, b cache.Span) int { return int(a.Start - b.Start) }
	slices.SortFunc(got, byStart)
	slices.SortFunc(want, byStart)
	if !slices.Equal(got, want) {
		t.Errorf("asked for %v, want %v", got, want)
	}
}
