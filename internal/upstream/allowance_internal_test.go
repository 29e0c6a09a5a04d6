package upstream

import (
	"testing"
	"testing/synctest"
	"time"
)

// admitted asks for a request and compares the answer.
func (a *allowance) admitted(t *testing.T, c class, want bool, wantWait time.Duration) {
	t.Helper()
	if wait, _, ok := a.admit(c); ok != want || wait != wantWait {
		t.Errorf("admit: got %v, wait %v, want %v, wait %v", ok, wait, want, wantWait)
	}
}

func TestPauseThatTheUpstreamNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(allowance)
		if length, begun := a.limited(documents, 90*time.Second); length != 90*time.Second || !begun {
			t.Errorf("got a pause of %v, new: %v", length, begun)
		}
		a.admitted(t, documents, false, 90*time.Second)
		a.admitted(t, blobs, true, 0)
		if a.answered(documents) {
			t.Error("an answer to a request from before ended the pause")
		}
		time.Sleep(89 * time.Second)
		a.admitted(t, documents, false, time.Second)
		time.Sleep(time.Second)
		a.admitted(t, documents, true, 0)
		a.admitted(t, documents, false, probeTime) // one finds out
		if b := a.budget(time.Now()); b.Exhausted() {
			t.Error("exhausted although a request is finding out")
		}
		if !a.answered(documents) {
			t.Error("the answer did not end the pause")
		}
		a.admitted(t, documents, true, 0)
		a.admitted(t, documents, true, 0)
	})
}

func TestPauseThatTheUpstreamDidNotName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(allowance)
		for _, want := range []time.Duration{5, 10, 20, 40, 60, 60} {
			length, _ := a.limited(documents, 0)
			if length != want*time.Second {
				t.Errorf("got a pause of %v, want %d s", length, want)
			}
			if again, begun := a.limited(documents, 0); again != length || begun {
				t.Errorf("a second 429 of the same moment gave %v, new: %v", again, begun)
			}
			time.Sleep(length)
			a.admitted(t, documents, true, 0)
		}
		a.answered(documents)
		if length, begun := a.limited(documents, 0); length != firstPause || !begun {
			t.Errorf("after a success: got a pause of %v, new: %v", length, begun)
		}
	})
}

// A request that finds out may be given up. The next one finds out then.
func TestPauseWhoseProbeIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(allowance)
		a.limited(blobs, time.Second)
		time.Sleep(time.Second)
		a.admitted(t, blobs, true, 0)
		time.Sleep(probeTime)
		a.admitted(t, blobs, true, 0)
		a.admitted(t, blobs, false, probeTime)
	})
}

func TestLongPauseIsCut(t *testing.T) {
	a := new(allowance)
	if length, _ := a.limited(documents, 100*time.Hour); length != longestPause {
		t.Errorf("got a pause of %v, want %v", length, longestPause)
	}
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(allowance)
		left := func(want float64) {
			t.Helper()
			if b := a.budget(time.Now()); b.Left < want-0.001 || b.Left > want+0.001 {
				t.Errorf("%v is left, want %v", b.Left, want)
			}
		}
		left(1)
		a.observe(headerOf("RateLimit-Limit: 100;w=1000\nRateLimit-Remaining: 20;w=1000"))
		left(0.2)
		a.observe(headerOf("Content-Type: text/plain")) // says nothing new
		left(0.2)
		time.Sleep(100 * time.Second)
		left(0.3)
		time.Sleep(time.Hour)
		left(1)
		a.observe(headerOf("RateLimit-Limit: 100\nRateLimit-Remaining: 0\nRateLimit-Reset: 50"))
		left(0)
		time.Sleep(50 * time.Second)
		left(1)
		a.limited(documents, time.Minute)
		if b := a.budget(time.Now()); b.Left != 0 || !b.Exhausted() || time.Until(b.Until) != time.Minute || b.ForBackground() {
			t.Errorf("got %+v during a pause", b)
		}
		time.Sleep(time.Minute)
		if b := a.budget(time.Now()); b.Exhausted() || !b.ForBackground() {
			t.Errorf("got %+v after a pause", b)
		}
	})
}

func TestBetterBudget(t *testing.T) {
	soon, late := Budget{Until: time.Unix(1, 0)}, Budget{Until: time.Unix(2, 0)}
	little, much := Budget{Left: 0.1}, Budget{Left: 0.9}
	ordered := []Budget{late, soon, little, much}
	for i, a := range ordered {
		for j, b := range ordered {
			if a.better(b) != (i > j) {
				t.Errorf("%+v better than %+v: %v", a, b, a.better(b))
			}
		}
	}
}
