package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
)

// chunk is the length of chunks here, window how many missing ones a fill chooses among.
const (
	chunk  = 32 * kib
	window = 64
)

// chunked asks for d in chunks, of which eight may come at once.
func (o *origin) chunked(d oci.Digest) cache.Request {
	r := o.request(d)
	r.Fetches, r.Chunk = 8, chunk
	return r
}

// chunkOf returns the chunk of that number.
func chunkOf(i int64) cache.Span { return cache.Span{Start: i * chunk, End: (i + 1) * chunk} }

// seen returns what was asked for so far.
func (o *origin) seen() []cache.Span {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.wishes)
}

// wantInChunks fails the test if anything was asked for that crosses the border of a chunk or has no end.
func (o *origin) wantInChunks(t *testing.T) {
	t.Helper()
	for _, w := range o.seen() {
		if w.End <= w.Start || w.Start/chunk != (w.End-1)/chunk {
			t.Errorf("asked for [%d, %d), which is not in one chunk", w.Start, w.End)
		}
	}
}

// TestChunks: the first chunk comes alone, then eight at once: that of the front, and others out of the next ones that are
// missing. Each comes once and whole.
func TestChunks(t *testing.T) {
	for _, size := range []int64{-1, 200*chunk + 5} { // known before or not
		synctest.Test(t, func(t *testing.T) { allChunks(t, size) })
	}
}

func allChunks(t *testing.T, size int64) {
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	c := cachetest.Open(t, cachetest.Config(t))
	c.SetSeed(seed)
	b, d := content(200*chunk + 5)
	o := newOrigin(b)
	o.chunk = 5000
	answer := make(chan struct{})
	r := o.chunked(d)
	r.Size = size
	most := 0
	r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
		s, err := o.from(ctx, want)
		o.set(func(o *origin) { most = max(most, o.open) })
		<-answer
		return s, err
	}
	reader := start(fill(t, c, r), b, 0, -1)
	synctest.Wait()
	if got := o.seen(); !slices.Equal(got, []cache.Span{chunkOf(0)}) {
		t.Errorf("asked for %v before the first answer", got)
	}
	gate := o.close(0, len(b))
	close(answer)
	synctest.Wait()
	if got := o.wishCount(); got != 8 {
		t.Errorf("%d requests at once, want 8", got)
	}
	gate()
	reader.complete(t)
	cachetest.Settle(c)
	o.wantOnce(t, 0)
	o.wantInChunks(t)
	if most != 8 {
		t.Errorf("up to %d bodies were open", most)
	}
	wantRandomInWindow(t, o.seen(), 201)
}

// wantRandomInWindow fails the test unless each of n chunks was asked for once, when fewer than a window of missing ones came
// before it, and not in order. Fetches that start together may ask in any order.
func wantRandomInWindow(t *testing.T, wishes []cache.Span, n int) {
	t.Helper()
	asked := make(map[int64]bool)
	for _, w := range wishes {
		number, skipped := w.Start/chunk, 0
		for i := range number {
			if !asked[i] {
				skipped++
			}
		}
		if asked[number] || skipped >= window+8 {
			t.Errorf("chunk %d was asked for (before: %v) while %d before it were missing", number, asked[number], skipped)
		}
		asked[number] = true
	}
	if len(asked) != n || slices.IsSortedFunc(wishes, func(a, b cache.Span) int { return int(a.Start - b.Start) }) {
		t.Errorf("%d chunks were asked for, want %d in another order than theirs", len(asked), n)
	}
}

// TestChunksInDemand: what becomes free goes to the front first, and then to a reader that waits, who gets a whole chunk.
func TestChunksInDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(100 * chunk)
		o := newOrigin(b)
		var gates []func()
		for i := range 100 {
			gates = append(gates, o.close(i*chunk, (i+1)*chunk))
		}
		r := o.chunked(d)
		r.Fetches = 2
		whole := start(fill(t, c, r), b, 0, -1)
		synctest.Wait()
		other := o.seen()[1].Start / chunk
		wanted := (other+50)%90 + 5
		reader := start(fill(t, c, r), b, wanted*chunk+100, 50)
		synctest.Wait()
		if got := o.wishCount(); got != 2 {
			t.Fatalf("%d requests at once, want 2", got)
		}
		gates[other]()
		synctest.Wait()
		if got := o.seen(); len(got) != 3 || got[2] != chunkOf(wanted) {
			t.Errorf("asked for %v, want chunk %d last", got, wanted)
		}
		gates[0]()
		synctest.Wait()
		front := int64(1)
		for front == other || front == wanted {
			front++
		}
		if got := o.seen(); len(got) != 4 || got[3] != chunkOf(front) {
			t.Errorf("asked for %v, want chunk %d last", got, front)
		}
		gates[wanted]()
		reader.complete(t)
		for _, open := range gates {
			open()
		}
		whole.complete(t)
		cachetest.Settle(c)
		o.wantOnce(t, 0)
	})
}

// TestChunksGoOn with what is missing of parts that were begun in other ways, and the other way round.
func TestChunksGoOn(t *testing.T) {
	const n = 100*chunk + 77
	b, d := content(n)
	f := func(name string, first, second func(*origin) cache.Request, restart bool) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := cachetest.Config(t)
				c := cachetest.Unchecked(t, cfg)
				o := newOrigin(b)
				r := first(o)
				r.From = onlyUpTo(o, 61*chunk+1234)
				start(fill(t, c, r), b, 0, -1).short(t, errDown)
				cachetest.Settle(c)
				if restart {
					if err := c.Close(); err != nil {
						t.Fatal(err)
					}
					c = cachetest.Open(t, cfg)
				}
				o.set(func(o *origin) { o.wishes = nil })
				wantWhole(t, c, second(o), b)
				cachetest.Settle(c)
				o.wantOnce(t, 0)
				if second(o).Chunk > 0 {
					o.wantInChunks(t)
				}
			})
		})
	}
	plain := func(o *origin) cache.Request { return o.request(d) }
	chunked := func(o *origin) cache.Request { return o.chunked(d) }
	f("without chunks, then with", plain, chunked, false)
	f("with chunks, then without", chunked, plain, false)
	f("with chunks, then with", chunked, chunked, false)
	f("with chunks, then with, after a restart", chunked, chunked, true)
	f("without chunks, then with, after a restart", plain, chunked, true)
}

// TestChunksOfOddSources: what cannot come in chunks comes in one piece.
func TestChunksOfOddSources(t *testing.T) {
	const n = 50*chunk + 1
	b, d := content(n)
	// wishes is how many requests there are, zero if that depends on which comes first.
	f := func(name string, wishes int, again int64, change func(*origin, *cache.Request)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := cachetest.Open(t, cachetest.Config(t))
				o := newOrigin(b)
				r := o.chunked(d)
				change(o, &r)
				readers := []*reading{start(fill(t, c, r), b, 20*chunk, chunk), start(fill(t, c, r), b, 0, -1)}
				for _, reader := range readers {
					reader.complete(t)
				}
				cachetest.Settle(c)
				o.wantOnce(t, again)
				if got := o.wishCount(); got != wishes && wishes > 0 || got > 9 {
					t.Errorf("%d requests, want %d: %v", got, wishes, o.wishes)
				}
			})
		})
	}
	f("everything at once", 1, 0, func(o *origin, r *cache.Request) {
		o.noRanges = true
		r.From = (&link{each: 64 * mib}).from(o)
	})
	f("everything at once, no length", 1, 0, func(o *origin, r *cache.Request) {
		o.noRanges, o.noSize = true, true
		r.From = (&link{each: 64 * mib}).from(o)
	})
	f("no ranges", 2, 0, func(o *origin, _ *cache.Request) { o.refuseRanges = cache.ErrNoRange })
	f("no length", 2, 0, func(o *origin, _ *cache.Request) { o.noSize = true })
	f("one chunk is all", 1, 0, func(_ *origin, r *cache.Request) { r.Chunk = mib * 64 })
	f("ranges up to the first only", 0, 8*inFlight, func(o *origin, r *cache.Request) {
		r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
			s, err := o.from(ctx, want)
			if want.Start > 0 {
				_ = s.Body.Close()
				return nil, cache.ErrNoRange
			}
			return s, err
		}
	})
}

// TestChunkSourcesGiveUp: chunks whose sources fail are asked for again as long as others come; when none comes any more, the
// fill fails.
func TestChunkSourcesGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(300 * chunk)
		o := newOrigin(b)
		r := o.chunked(d)
		var mu sync.Mutex
		failing := map[int64]bool{1: true, 3: true, 5: true, 7: true, 9: true, 11: true}
		slow := slowly(o.from)
		r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
			mu.Lock()
			fails := failing[want.Start/chunk]
			mu.Unlock()
			if fails {
				return nil, fmt.Errorf("chunk %d: %w", want.Start/chunk, errDown)
			}
			return slow(ctx, want)
		}
		reader := start(fill(t, c, r), b, 0, -1)
		time.Sleep(30 * time.Second)
		mu.Lock()
		clear(failing)
		mu.Unlock()
		reader.complete(t)
		cachetest.Settle(c)
		c.Remove(d)
		failing[3] = true
		start(fill(t, c, r), b, 0, -1).short(t, errDown)
		if size, ok := c.Held(d, cache.Span{Start: 4 * chunk, End: -1}); size != int64(len(b)) || !ok {
			t.Errorf("not all that comes without the bad chunk was fetched: %d, %v", size, ok)
		}
	})
}

// TestChunksAhead: content that nobody has asked for comes one chunk at a time.
func TestChunksAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(40 * chunk)
		o := newOrigin(b)
		l := &link{each: chunk}
		r := o.chunked(d)
		r.From = l.from(o)
		done := ahead(t, c, r)
		time.Sleep(5 * time.Second)
		if most := l.connections(); most != 1 {
			t.Errorf("%d connections for what nobody has asked for", most)
		}
		reader := start(fill(t, c, r), b, 0, -1)
		reader.complete(t)
		<-done
		if most := l.connections(); most != 8 {
			t.Errorf("%d connections for what somebody has asked for", most)
		}
		o.wantOnce(t, 0)
	})
}

// connections returns how many were open at once so far.
func (l *link) connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most
}

// TestWrongChunks: one wrong chunk is found at the end, as ever, and whoever wants to know is told with the bytes at hand.
func TestWrongChunks(t *testing.T) {
	for _, n := range []int{10 * chunk, 60 * chunk} { // held back whole, and not
		synctest.Test(t, func(t *testing.T) {
			c := cachetest.Open(t, cachetest.Config(t))
			b, d := content(n)
			o := newOrigin(b)
			o.wrong = []int64{3*chunk + 1}
			var verdicts []bool
			r := o.chunked(d)
			r.Verdict = verdictOn(t, b, o, &verdicts)
			start(fill(t, c, r), b, 0, -1).short(t, cache.ErrWrongContent)
			cachetest.Settle(c)
			want := []bool{false}
			if n <= smallLimit {
				want = []bool{false, false} // it was asked for twice
			}
			if !slices.Equal(verdicts, want) {
				t.Errorf("verdicts %v, want %v", verdicts, want)
			}
			o.set(func(o *origin) { o.wrong = nil })
			wantWhole(t, c, r, b)
			cachetest.Settle(c)
			if want = append(want, true); !slices.Equal(verdicts, want) {
				t.Errorf("verdicts %v, want %v", verdicts, want)
			}
		})
	}
}

// verdictOn notes verdicts on what the origin has delivered.
func verdictOn(t *testing.T, b []byte, o *origin, verdicts *[]bool) func(io.ReaderAt, int64, bool) {
	return func(content io.ReaderAt, size int64, right bool) {
		*verdicts = append(*verdicts, right)
		got := make([]byte, size)
		if _, err := content.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		expect := slices.Clone(b)
		for _, at := range o.wrong {
			expect[at] ^= 0xff
		}
		if !bytes.Equal(got, expect) {
			t.Errorf("a verdict (%v) on other bytes than came", right)
		}
	}
}

// verdictThat is over when judged is closed.
func verdictThat(judged <-chan struct{}) func(io.ReaderAt, int64, bool) {
	return func(io.ReaderAt, int64, bool) { <-judged }
}
