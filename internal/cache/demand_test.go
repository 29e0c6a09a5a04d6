package cache_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
)

// TestDemand fetches the chunks that pieces are in, once, and nothing else; it holds room for them and nothing else; and it
// ends when nobody asks any more. What it has brought is there for the next piece, a restart later, and for the next client.
func TestDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 300 * chunk
		cfg := cachetest.Config(t)
		c := cachetest.Unchecked(t, cfg)
		b, d := content(n)
		o := newOrigin(b)
		r := o.chunked(d)
		var want []cache.Span
		for i := int64(7); i < 300; i += 7 {
			first := piece(t, c, r, cache.Span{Start: i*chunk + 10, End: i*chunk + 20})
			second := piece(t, c, r, chunkOf(i))
			wantPiece(t, first, b)
			wantPiece(t, second, b)
			want = append(want, chunkOf(i))
			time.Sleep(5 * time.Second)
		}
		o.wantWishes(t, want...)
		held := int64(len(want)) * chunk
		if got := c.Taken(); got != held || c.OnDemand() != 1 {
			t.Errorf("%d bytes of room are taken for %d, by %d fills on demand", got, held, c.OnDemand())
		}
		if err := c.Check(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(6 * time.Second)
		if got := c.Taken(); got != held || c.Fills() != 0 {
			t.Errorf("%d bytes of room are taken for %d, by %d fills", got, held, c.Fills())
		}
		for range 2 {
			f := func(span cache.Span, want bool) {
				t.Helper()
				if size, ok := c.Held(d, span); size != n || ok != want {
					t.Errorf("%v of %d is held: %v", span, size, ok)
				}
			}
			f(chunkOf(7), true)
			f(cache.Span{Start: 7*chunk + 1, End: 8*chunk + 1}, false)
			f(chunkOf(8), false)
			f(cache.Span{Start: 0, End: -1}, false)
			if c.Fills() != 0 {
				t.Error("a question has started a fill")
			}
			wantPiece(t, piece(t, c, r, chunkOf(7)), b)
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			c = cachetest.Unchecked(t, cfg)
			if err := c.Check(t.Context()); err != nil {
				t.Error(err)
			}
		}
		o.wantWishes(t, want...)
		wantWhole(t, c, r, b)
		cachetest.Settle(c)
		o.wantOnce(t, 0)
		o.wantInChunks(t)
		if err := c.Check(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestDemandTurnsNormal as soon as a client comes, or somebody who fetches ahead.
func TestDemandTurnsNormal(t *testing.T) {
	f := func(name string, ahead bool) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := cachetest.Open(t, cachetest.Config(t))
				b, d := content(100 * chunk)
				o := newOrigin(b)
				stuck := o.close(50*chunk, 51*chunk)
				r := o.chunked(d)
				p := piece(t, c, r, chunkOf(50))
				synctest.Wait()
				if ahead {
					blob, err := c.FillAhead(r)
					if err != nil || blob == nil {
						t.Fatal(blob, err)
					}
					defer blob.Close()
				}
				var reader *reading
				if !ahead {
					reader = start(fill(t, c, r), b, 0, -1)
				}
				synctest.Wait()
				if got := c.Taken(); c.OnDemand() != 0 || got != int64(len(b)) {
					t.Errorf("%d bytes are taken, %d fills on demand", got, c.OnDemand())
				}
				for _, rest := range []cache.Span{{Start: 0, End: 50 * chunk}, {Start: 51 * chunk, End: -1}} {
					if _, ok := c.Held(d, rest); ok == (ahead && rest.Start > 0) { // ahead, nothing comes beside the front
						t.Errorf("%v has come: %v", rest, ok)
					}
				}
				stuck()
				wantPiece(t, p, b)
				if reader != nil {
					reader.complete(t)
				}
				cachetest.Settle(c)
				o.wantOnce(t, 0)
			})
		})
	}
	f("client", false)
	f("ahead", true)
}

// TestDemandHasNoRoomForAll: a client needs room for everything, and pieces only for themselves.
func TestDemandHasNoRoomForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := cachetest.Config(t)
		cfg.MaxSize = 20 * chunk
		c := cachetest.Open(t, cfg)
		b, d := content(40 * chunk)
		o := newOrigin(b)
		r := o.chunked(d)
		for i := range int64(20) {
			wantPiece(t, piece(t, c, r, chunkOf(2*i)), b)
		}
		if err := pieceError(t, c, r, chunkOf(1)); !errors.Is(err, cache.ErrNoRoom) {
			t.Errorf("one piece more than there is room for: %v", err)
		}
		cachetest.Settle(c)
		wantPiece(t, piece(t, c, r, chunkOf(4)), b)
		reader := startOrPass(c, fill(t, c, r), r, b, 0)
		reader.complete(t)
	})
}

// TestDemandCompletes: the last piece makes content whole, which is verified and stored like any other.
func TestDemandCompletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(40*chunk + 1)
		o := newOrigin(b)
		var verdicts []bool
		r := o.chunked(d)
		r.Verdict = verdictOn(t, b, o, &verdicts)
		for i := range int64(41) {
			wantPiece(t, piece(t, c, r, chunkOf(40-i)), b)
		}
		cachetest.Settle(c)
		if size, ok := c.Stat(d); !ok || size != int64(len(b)) || !slices.Equal(verdicts, []bool{true}) {
			t.Errorf("stored %v with %d bytes, verdicts %v", ok, size, verdicts)
		}
		o.wantOnce(t, 0)
		o.wantInChunks(t)
	})
}

// TestDemandIsWrong: pieces of wrong content go out, because nobody can know better; but it is never stored.
func TestDemandIsWrong(t *testing.T) {
	for _, n := range []int{3 * chunk, 40 * chunk} {
		synctest.Test(t, func(t *testing.T) {
			c := cachetest.Open(t, cachetest.Config(t))
			b, d := content(n)
			o := newOrigin(b)
			o.wrong = []int64{2 * chunk}
			r := o.chunked(d)
			last := o.close(n-chunk, n)
			var pieces []*cache.Piece
			for i := range int64(n / chunk) {
				pieces = append(pieces, piece(t, c, r, chunkOf(i)))
			}
			synctest.Wait()
			wantPiece(t, pieces[0], b)
			last()
			synctest.Wait()
			cachetest.Settle(c)
			if _, ok := c.Stat(d); ok {
				t.Error("wrong content is stored")
			}
			if err := pieces[1].Wait(t.Context()); !errors.Is(err, cache.ErrWrongContent) && !errors.Is(err, cache.ErrSuspect) {
				t.Errorf("a piece of wrong content: %v", err)
			}
			for _, p := range pieces {
				_ = p.Close()
			}
			if _, err := c.Piece(r, chunkOf(1)); !errors.Is(err, cache.ErrSuspect) {
				t.Errorf("a piece of suspect content: %v", err)
			}
		})
	}
}

// TestDemandIsRefused: the pieces whose chunk the source refuses fail, and others do not notice.
func TestDemandIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(40 * chunk)
		o := newOrigin(b)
		gate := o.close(0, chunk)
		r := o.chunked(d)
		refuse := func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
			if want.Start >= 10*chunk {
				return nil, errDown
			}
			return o.from(ctx, want)
		}
		r.From = refuse
		good := piece(t, c, r, chunkOf(0))
		if err := pieceError(t, c, r, chunkOf(10)); !errors.Is(err, errDown) {
			t.Errorf("a piece that the source refuses: %v", err)
		}
		gate()
		wantPiece(t, good, b)
		cachetest.Settle(c)
		begin := time.Now()
		if err := pieceError(t, c, r, chunkOf(11)); !errors.Is(err, errDown) || time.Since(begin) > 0 {
			t.Errorf("the only piece, which the source refuses: %v after %v", err, time.Since(begin))
		}
		synctest.Wait()
		if c.Fills() != 0 {
			t.Error("a fill that nobody waits for goes on")
		}
	})
}

// TestDemandOfOddSources: what has no ranges comes as a whole, and a piece in its middle all the same.
func TestDemandOfOddSources(t *testing.T) {
	const n = 40*chunk + 1
	b, d := content(n)
	f := func(name string, number int64, change func(*origin, *cache.Request)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := cachetest.Open(t, cachetest.Config(t))
				o := newOrigin(b)
				r := o.chunked(d)
				change(o, &r)
				first, second := piece(t, c, r, chunkOf(number)), piece(t, c, r, chunkOf(20))
				for _, p := range []*cache.Piece{first, second} {
					if err := p.Wait(t.Context()); err != nil {
						t.Error(err)
					}
				}
				first.Close()
				second.Close()
				cachetest.Settle(c)
				wantWhole(t, c, r, b)
				cachetest.Settle(c)
				o.wantOnce(t, 2*inFlight)
			})
		})
	}
	whole := func(o *origin, r *cache.Request) {
		o.noRanges = true
		r.From = (&link{each: 64 * mib}).from(o)
	}
	for _, number := range []int64{0, 5, 40} {
		f("everything at once", number, whole)
		f("everything at once, no length", number, func(o *origin, r *cache.Request) { o.noSize = true; whole(o, r) })
		f("no ranges", number, func(o *origin, _ *cache.Request) { o.refuseRanges = cache.ErrNoRange })
		f("no length", number, func(o *origin, _ *cache.Request) { o.noSize = true })
		f("length is known", number, func(_ *origin, r *cache.Request) { r.Size = n })
	}
}

// TestLastPieceOfUnknownLength: that the content has ended is seen after its last byte, and nothing comes after that.
func TestLastPieceOfUnknownLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(2*chunk + 1)
		o := newOrigin(b)
		o.noSize = true
		r := o.chunked(d)
		r.From = slowly(r.From)
		wantPiece(t, piece(t, c, r, chunkOf(2)), b)
	})
}

// TestDemandBeyondTheEnd: whoever asks without knowing the length is told.
func TestDemandBeyondTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(3 * chunk)
		o := newOrigin(b)
		r := o.chunked(d)
		p := piece(t, c, r, chunkOf(1))
		if err := pieceError(t, c, r, chunkOf(100)); !errors.Is(err, cache.ErrNoSpan) {
			t.Errorf("a piece beyond the end: %v", err)
		}
		wantPiece(t, p, b)
		wantPiece(t, piece(t, c, r, cache.Span{Start: 2 * chunk, End: 9 * chunk}), b)
	})
}

// TestDemandGivesWay to content that the caller has whole.
func TestDemandGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(3 * chunk)
		o := newOrigin(b)
		wantPiece(t, piece(t, c, o.chunked(d), chunkOf(1)), b)
		if err := c.Put(d, b); err != nil {
			t.Error(err)
		}
		if _, ok := c.Stat(d); !ok || c.Fills() != 0 {
			t.Errorf("stored: %v, %d fills", ok, c.Fills())
		}
		r := o.chunked(d)
		r.From = slowly(r.From)
		wantPiece(t, piece(t, c, r, chunkOf(2)), b)
	})
}

// TestDemandEndsUnnoticed: a fill that nobody asked for pieces of any more has neither failed nor completed.
func TestDemandEndsUnnoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		c, err := cache.Open(cachetest.Config(t), slog.New(slog.DiscardHandler), registry)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		b, d := content(40 * chunk)
		o := newOrigin(b)
		wantPiece(t, piece(t, c, o.chunked(d), chunkOf(1)), b)
		cachetest.Settle(c)
		for _, outcome := range []string{"failed", "complete", "resumed", "mismatch"} {
			if got := gauge(t, registry, "mirror_fills_total", outcome); got != 0 {
				t.Errorf("%.0f fills count as %s", got, outcome)
			}
		}
		wantWhole(t, c, o.chunked(d), b)
	})
}
