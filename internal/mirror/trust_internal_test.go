package mirror

import (
	"testing"
	"time"

	"mirror/internal/upstream"
)

func TestTrustIn(t *testing.T) {
	minute := upstream.Freshness{FreshFor: time.Minute, StaleFor: time.Hour}
	f := func(f upstream.Freshness, age time.Duration, b upstream.Budget, want trust) {
		t.Helper()
		if got := trustIn(f, age, func() upstream.Budget { return b }); got != want {
			t.Errorf("fresh for %v, stale for %v, checked %v ago with %+v: got %d, want %d", f.FreshFor, f.StaleFor, age, b, got, want)
		}
	}
	all := upstream.Budget{Left: 1}
	f(minute, 0, all, fresh)
	f(minute, 44*time.Second, all, fresh)
	f(minute, 45*time.Second, all, ending)
	f(minute, 59*time.Second, all, ending)
	f(minute, time.Minute, all, due)
	f(minute, time.Hour-1, all, due)
	f(minute, time.Hour, all, expired)
	f(minute, -time.Second, all, due)

	// Each time.
	f(upstream.Freshness{StaleFor: time.Hour}, 0, all, due)
	f(upstream.Freshness{}, 0, all, expired)
	f(upstream.Freshness{FreshFor: time.Minute}, time.Second, all, fresh)
	f(upstream.Freshness{FreshFor: time.Minute}, time.Minute, all, expired)

	// The less is left, the longer it is fresh.
	low, scarce, last := upstream.Budget{Left: 0.4}, upstream.Budget{Left: 0.1}, upstream.Budget{Left: 0.01}
	f(minute, 119*time.Second, low, fresh)
	f(minute, 120*time.Second, low, due)
	f(minute, 479*time.Second, scarce, fresh)
	f(minute, 480*time.Second, scarce, due)
	f(minute, 30*time.Second, last, fresh)
	f(minute, time.Minute, last, spared)
	f(minute, time.Hour-1, last, spared)
	f(minute, time.Hour, last, expired)
	f(upstream.Freshness{FreshFor: time.Minute, StaleFor: 90 * time.Second}, 89*time.Second, scarce, fresh)
	f(upstream.Freshness{FreshFor: time.Minute, StaleFor: 90 * time.Second}, 90*time.Second, scarce, expired)

	none := upstream.Budget{Until: time.Now().Add(time.Hour)}
	f(minute, 30*time.Second, none, fresh)
	f(minute, time.Minute, none, limited)
	f(minute, -time.Minute, none, limited)
	f(minute, time.Hour, none, expired)
}
