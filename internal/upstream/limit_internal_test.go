package upstream

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/units"
)

// A second's worth of requests goes out at once, the next ones take turns, and who would wait long is told when to come
// back.
func TestRequestsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(Limits{Requests: 2})
		begin := time.Now()
		for _, want := range []time.Duration{0, 0, 500 * time.Millisecond, time.Second} {
			if err := l.request(t.Context()); err != nil || time.Since(begin) != want {
				t.Errorf("got %v after %v, want a turn after %v", err, time.Since(begin), want)
			}
		}
		for range 10 {
			go func() { _ = l.request(t.Context()) }()
		}
		synctest.Wait()
		at := time.Now()
		err := l.request(t.Context())
		if !errors.Is(err, errLimited) || !errors.Is(err, ErrTooManyRequests) || time.Since(at) != 0 {
			t.Errorf("got %v after %v, want a refusal at once", err, time.Since(at))
		}
		if wait := RetryAfter(err); wait != 5500*time.Millisecond {
			t.Errorf("told to come back in %v, want when there is a turn", wait)
		}
		time.Sleep(longestRequestWait)
		if err := l.request(t.Context()); err != nil {
			t.Errorf("the refusal took a turn: %v", err)
		}
	})
}

func TestRequestThatCannotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(Limits{Requests: 1})
		_ = l.request(t.Context())
		hurried, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		at := time.Now()
		if err := l.request(hurried); !errors.Is(err, errLimited) || time.Since(at) != 0 {
			t.Errorf("got %v after %v", err, time.Since(at))
		}
		given, giveUp := context.WithCancel(t.Context())
		go func() {
			time.Sleep(100 * time.Millisecond)
			giveUp()
		}()
		if err := l.request(given); !errors.Is(err, errLimited) || time.Since(at) != 100*time.Millisecond {
			t.Errorf("got %v after %v", err, time.Since(at))
		}
		if err := l.request(t.Context()); err != nil || time.Since(at) != time.Second {
			t.Errorf("got %v after %v: those that gave up kept their turns", err, time.Since(at))
		}
	})
}

// Two transfers share the bandwidth evenly, whichever came first and however large its buffer is.
func TestBandwidthIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 1 << 20
		l := newLimits(Limits{Bandwidth: units.Rate(rate)})
		ctx, stop := context.WithCancel(t.Context())
		transfer := func(buffer int, got *atomic.Int64) {
			for n := l.room(buffer); l.received(ctx, n) == nil; {
				got.Add(int64(n))
			}
		}
		var first, second atomic.Int64
		go transfer(64<<10, &first)
		time.Sleep(time.Second)
		before := first.Load()
		go transfer(1<<20, &second)
		time.Sleep(10 * time.Second)
		stop()
		synctest.Wait()
		older, newer := first.Load()-before, second.Load()
		if total := older + newer; total < 10*rate*9/10 || total > 10*rate*11/10 {
			t.Errorf("%d bytes in 10 s, want about %d", total, 10*rate)
		}
		if newer < older*9/10 || newer > older*11/10 {
			t.Errorf("one transfer got %d bytes, the other %d in the same time", older, newer)
		}
	})
}
