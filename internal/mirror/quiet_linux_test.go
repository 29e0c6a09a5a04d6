package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"mirror/internal/mirror"
	"mirror/internal/upstream/upstreamtest"
)

// Tags that are here are served stale and without waiting, whatever the upstream does instead of answering. The test is
// about what is asked, and fails when each client waits; how long the pulls took is logged.
func TestPullsInAnOutage(t *testing.T) {
	const (
		tags, clients, rounds = 20, 4, 10
		pulls                 = tags * clients * rounds
	)
	f := func(name string, most int, outage func(*upstreamtest.Registry)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origin := upstreamtest.New(t)
			h := open(t, origin, fresh(always))
			for i := range tags {
				origin.AddImage("app", fmt.Sprint(i), 10)
				h.manifest("app", tag(fmt.Sprint(i)), mirror.Miss)
			}
			origin.Reset()
			outage(origin)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			// A second for each check would be three times as much.
			defer time.AfterFunc(time.Minute, func() { cancel(errors.New("waited for the checks")) }).Stop()
			var took [clients][]time.Duration
			var group sync.WaitGroup
			for c := range clients {
				group.Go(func() {
					for n := range tags * rounds {
						begin := time.Now()
						m, err := h.Manifest(ctx, repository(t, "app"), tag(fmt.Sprint(n%tags)))
						took[c] = append(took[c], time.Since(begin))
						if err != nil || m.Outcome != mirror.Stale || m.Warning == "" {
							t.Errorf("got %v, %v", m, err)
							return
						}
					}
				})
			}
			group.Wait()
			all := slices.Sorted(slices.Values(slices.Concat(took[:]...)))
			t.Logf("%d pulls: median %v, p99 %v, longest %v", len(all), all[len(all)/2], all[len(all)*99/100], all[len(all)-1])
			if n := len(origin.Requests()); n > most {
				t.Errorf("%d pulls cost %d requests, want at most %d", pulls, n, most)
			}
		})
	}
	f("429", clients, func(o *upstreamtest.Registry) { o.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Status: 429}) })
	f("hanging", 2*tags, func(o *upstreamtest.Registry) { o.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Hang: true}) })
	f("dropping packets", 0, (*upstreamtest.Registry).Drop)
}
