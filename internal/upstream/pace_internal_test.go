package upstream

import (
	"testing"
	"testing/synctest"
	"time"
)

// paced returns a pace that has seen so many equal measurements.
func paced(samples int, took time.Duration) *pace {
	p := &pace{}
	for range samples {
		p.add(took)
	}
	return p
}

func TestPaceCompare(t *testing.T) {
	const ms = time.Millisecond
	f := func(name string, p *pace, fastest time.Duration, want bool) {
		t.Helper()
		if got := p.compare(fastest); got != want {
			t.Errorf("%s: slow %v, want %v", name, got, want)
		}
	}
	f("nothing known", &pace{}, 10*ms, false)
	f("nobody to compare with", paced(9, time.Second), 0, false)
	f("two measurements", paced(2, time.Second), 10*ms, false)
	f("three", paced(3, time.Second), 10*ms, true)
	f("many times as slow, and nobody notices", paced(9, 200*ms), 10*ms, false)
	f("much slower, but not by a factor", paced(9, 900*ms), 500*ms, false)

	p := paced(9, time.Second)
	f("slow", p, 100*ms, true)
	f("twice the time is no reason to come back", p, 500*ms, true)
	f("nearly the same is", p, 700*ms, false)
	f("and twice the time is none to go again", p, 500*ms, false)
	f("slow again", p, 100*ms, true)
	f("all others are down", p, 0, false)
}

func TestPaceIsSmoothAndAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := paced(5, 100*time.Millisecond)
		p.add(500 * time.Millisecond)
		if got, ok := p.known(); got != 200*time.Millisecond || !ok {
			t.Errorf("got %v, %v, want a quarter of the way", got, ok)
		}
		if p.suspicious() {
			t.Error("one slow answer makes it suspicious")
		}
		time.Sleep(paceLife)
		if _, ok := p.known(); ok {
			t.Error("an old measurement counts")
		}
	})
}

func TestRetries(t *testing.T) {
	b := newRetries()
	spent := 0
	for range 1000 {
		b.earn()
		if b.spend() {
			spent++
		}
	}
	if spent < 100 || spent > 100+retryReserve {
		t.Errorf("%d retries for 1000 requests that failed, want a tenth and the reserve", spent)
	}
}
