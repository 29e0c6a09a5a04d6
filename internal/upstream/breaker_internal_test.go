package upstream

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var errRefused = errors.New("connection refused")

// watched is a breaker that counts what it tells the log.
type watched struct {
	*breaker
	opened, closed int
}

func newWatched() *watched {
	w := &watched{}
	w.breaker = newBreaker(func(open bool, _ time.Duration, _ error) {
		if open {
			w.opened++
		} else {
			w.closed++
		}
	})
	return w
}

// pass admits a request that must be let through.
func (w *watched) pass(t *testing.T) ticket {
	t.Helper()
	pass, _, _ := w.admit()
	if pass.breaker == nil {
		t.Fatal("a request was kept back")
	}
	return pass
}

// refused checks that requests are kept back, and returns for how long.
func (w *watched) refused(t *testing.T) time.Duration {
	t.Helper()
	pass, wait, cause := w.admit()
	if pass.breaker != nil || cause == nil {
		t.Fatal("a request was let through")
	}
	return wait
}

func TestBreakerOpensOnRepeatedFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWatched()
		for range 2 {
			b.pass(t).failed("/v2/", errRefused)
		}
		b.pass(t).succeeded() // failures must be consecutive
		for range 3 {
			b.pass(t).failed("/v2/", errRefused)
		}
		if wait := b.refused(t); wait != 5*time.Second {
			t.Errorf("open for %v, want 5s", wait)
		}
		if b.ready() || b.opened != 1 {
			t.Errorf("ready %v, opened %d times", b.ready(), b.opened)
		}
	})
}

func TestBreakerOpensOnTimeoutAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWatched()
		b.pass(t).failed("/v2/", ErrTimeout)
		b.refused(t)
	})
}

func TestBreakerProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWatched()
		b.pass(t).failed("/v2/", ErrTimeout)
		for _, pause := range []time.Duration{5, 10, 20, 30, 30} {
			if wait := b.refused(t); wait != pause*time.Second {
				t.Errorf("open for %v, want %v", wait, pause*time.Second)
			}
			time.Sleep(pause * time.Second)
			if !b.ready() {
				t.Error("not ready when the pause is over")
			}
			probe := b.pass(t)
			b.refused(t) // one at a time
			if b.ready() {
				t.Error("ready while a probe is out")
			}
			probe.failed("/v2/", errRefused)
		}
		time.Sleep(30 * time.Second)
		b.pass(t).succeeded()
		b.pass(t).failed("/v2/", ErrTimeout)
		if wait := b.refused(t); wait != 5*time.Second {
			t.Errorf("after it was well, open for %v, want 5s", wait)
		}
		if b.opened != 2 || b.closed != 1 {
			t.Errorf("logged %d times open, %d times closed, want 2 and 1", b.opened, b.closed)
		}
	})
}

func TestBreakerAbandonedProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWatched()
		b.pass(t).failed("/v2/", ErrTimeout)
		time.Sleep(5 * time.Second)
		b.pass(t).abandoned()
		b.pass(t).succeeded()
		b.pass(t).succeeded()
	})
}

func TestBreakerLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWatched()
		slow, dead := b.pass(t), b.pass(t)
		b.pass(t).failed("/v2/", ErrTimeout)
		dead.failed("/v2/", ErrTimeout)
		if wait := b.refused(t); wait != 5*time.Second || b.opened != 1 {
			t.Errorf("a failure of before counted again: open for %v, %d times", wait, b.opened)
		}
		slow.succeeded()
		b.pass(t).succeeded()
	})
}

func TestBreakerManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(func(bool, time.Duration, error) {})
		first, _, _ := b.admit()
		first.failed("/v2/", ErrTimeout)
		time.Sleep(breakerFirst)
		var mu sync.Mutex
		var passed []ticket
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() {
				if pass, _, _ := b.admit(); pass.breaker != nil {
					mu.Lock()
					defer mu.Unlock()
					passed = append(passed, pass)
				}
			})
		}
		group.Wait()
		if len(passed) != 1 {
			t.Errorf("%d probes went out, want 1", len(passed))
		}
	})
}
