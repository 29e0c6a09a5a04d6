package cache_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
)

// link shapes what an origin delivers: latency before each answer, a rate for each connection, and one for all together
// (zero: no bound), in bytes per second. Time is that of a synctest bubble.
type link struct {
	latency   time.Duration
	each, all int64
	allowed   int // connections at once; zero: no bound

	mu   sync.Mutex
	free time.Time // when the link is free for the next bytes
	open int
	most int // connections at once
}

func (l *link) from(o *origin) cache.FillFunc {
	return func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
		time.Sleep(l.latency)
		if l.full() {
			return nil, cache.ErrBusy
		}
		s, err := o.from(ctx, want)
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open++
		l.most = max(l.most, l.open)
		s.Whole = o.noRanges
		s.Body = &shaped{ReadCloser: s.Body, link: l}
		return s, nil
	}
}

func (l *link) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.allowed > 0 && l.open >= l.allowed
}

type shaped struct {
	io.ReadCloser
	link *link
	once sync.Once
}

func (s *shaped) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	time.Sleep(max(s.link.book(n), time.Duration(n)*time.Second/time.Duration(s.link.each)))
	return n, err
}

// book returns how long n bytes wait for their turn on the link.
func (l *link) book(n int) time.Duration {
	if l.all == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(n) * time.Second / time.Duration(l.all))
	return l.free.Sub(now)
}

func (s *shaped) Close() error {
	s.once.Do(func() {
		s.link.mu.Lock()
		s.link.open--
		s.link.mu.Unlock()
	})
	return s.ReadCloser.Close()
}

// TestSeveralConnections fetches long content over links of several kinds. Where each connection is slow, the content
// comes over all of them; where more of them bring nothing, one or two do. Hardly a byte is fetched twice.
func TestSeveralConnections(t *testing.T) {
	const n = 48 * mib
	b, d := content(n)
	// most is how long the fill may take, as a part of what one connection would take; connections how many may be open.
	f := func(name string, l *link, change func(*origin, *cache.Request), most float64, connections int) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := cachetest.Open(t, cachetest.Config(t))
				c.SetParallel(8*mib, 2*mib, 1)
				o := newOrigin(b)
				r := o.request(d)
				if change != nil {
					change(o, &r)
				}
				r.From = l.from(o)
				begun := time.Now()
				reader := start(fill(t, c, r), b, 0, -1)
				second := start(fill(t, c, r), b, 0, -1)
				time.Sleep(l.latency + time.Second*256*kib/time.Duration(l.each) + time.Millisecond)
				if reader.count() == 0 {
					t.Error("the reader waits for more than the first bytes")
				}
				reader.complete(t)
				second.complete(t)
				took := time.Since(begun)
				cachetest.Settle(c)
				alone := l.latency + time.Duration(n)*time.Second/time.Duration(l.each)
				t.Logf("%v, %.2f of one connection; %d connections, %d requests, %d bytes more than needed", took, took.Seconds()/alone.Seconds(), l.most, o.wishCount(), o.deliveredBytes()-n)
				if took.Seconds() > most*alone.Seconds() {
					t.Errorf("it took %v, want at most %.2f of %v", took, most, alone)
				}
				if l.most > connections {
					t.Errorf("%d connections were open at once, want at most %d", l.most, connections)
				}
				o.wantOnce(t, 4*inFlight)
			})
		})
	}
	sized := func(_ *origin, r *cache.Request) { r.Size = n }
	claimed := func(_ *origin, r *cache.Request) { r.Hint = n }
	f("each is slow", &link{latency: 30 * time.Millisecond, each: 8 * mib}, sized, 0.45, 4)
	f("each is slow, length is claimed", &link{latency: 30 * time.Millisecond, each: 8 * mib}, claimed, 0.45, 4)
	f("each is slow, length is unknown", &link{latency: 30 * time.Millisecond, each: 8 * mib}, nil, 0.45, 4)
	f("all are slow", &link{latency: 30 * time.Millisecond, each: 8 * mib, all: 8 * mib}, sized, 1.1, 2)
	f("two fill the link", &link{latency: 30 * time.Millisecond, each: 8 * mib, all: 16 * mib}, sized, 0.65, 4)
	f("the source allows one", &link{latency: 30 * time.Millisecond, each: 8 * mib, allowed: 1}, sized, 1.1, 1)
	f("the source allows two", &link{latency: 30 * time.Millisecond, each: 8 * mib, allowed: 2}, sized, 0.7, 2)
	f("no ranges", &link{latency: 30 * time.Millisecond, each: 8 * mib}, func(o *origin, r *cache.Request) { o.noRanges, r.Size = true, n }, 1.01, 1)
	f("no ranges, length is claimed", &link{latency: 30 * time.Millisecond, each: 8 * mib}, func(o *origin, r *cache.Request) { o.noRanges, r.Hint = true, n }, 1.01, 1)
	f("one connection allowed", &link{latency: 30 * time.Millisecond, each: 8 * mib}, func(_ *origin, r *cache.Request) { r.Size, r.Fetches = n, 1 }, 1.01, 1)
}
