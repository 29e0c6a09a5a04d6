package upstream

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/units"
	"mirror/internal/upstream/upstreamtest"
)

// Work that nobody waits for leaves half of the transfers to those who come, and gives way to everybody who waits.
func TestSpareLimits(t *testing.T) {
	f := func(name string, configured Limits, want int, use func(context.Context, *limits)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimits(configured)
				use(t.Context(), l)
				synctest.Wait()
				if got := l.spare(); got != want {
					t.Errorf("got %v, want %v", got, want)
				}
				time.Sleep(time.Minute) // lets those who wait go
			})
		})
	}
	take := func(ctx context.Context, p *places, n int) {
		for range n {
			go func() {
				if release, err := p.take(ctx, time.Second); err == nil {
					time.Sleep(2 * time.Second)
					release()
				}
			}()
		}
	}
	f("idle", Limits{Connections: 8}, 3, func(context.Context, *limits) {})
	f("few transfers", Limits{Connections: 8}, 1, func(ctx context.Context, l *limits) { take(ctx, l.transfers, 2) })
	f("half of the transfers", Limits{Connections: 8}, 0, func(ctx context.Context, l *limits) { take(ctx, l.transfers, 3) })
	f("one connection in all", Limits{Connections: 1}, 0, func(context.Context, *limits) {})
	f("somebody waits for a connection", Limits{Connections: 8}, 0, func(ctx context.Context, l *limits) { take(ctx, l.connections, 9) })
	f("no request is left", Limits{Connections: 8, Requests: 2}, 0, func(ctx context.Context, l *limits) {
		_, _ = l.request(ctx), l.request(ctx)
	})
	f("somebody waits for the bandwidth", Limits{Connections: 8, Bandwidth: units.Rate(units.MiB)}, 0, func(ctx context.Context, l *limits) {
		go func() {
			for range 20 {
				_ = l.received(ctx, share)
			}
		}()
	})
}

// A registry that is in trouble, has told us to wait, or is offline is asked for nothing that nobody waits for.
func TestThrives(t *testing.T) {
	f := func(name string, want bool, change func(*Registry)) {
		t.Helper()
		r := build(t, Config{Endpoints: []string{upstreamtest.New(t).URL}})
		change(r)
		if got := r.Thrives(); got != want || (r.Spare() > 0) != want {
			t.Errorf("%s: got %v and %v, want %v", name, got, r.Spare() > 0, want)
		}
	}
	e := func(r *Registry) *endpoint { return r.endpoints[0] }
	f("well", true, func(*Registry) {})
	f("offline", false, func(r *Registry) { r.config.Offline = true })
	f("open breaker", false, func(r *Registry) {
		pass, _, _ := e(r).breaker.admit()
		pass.failed("", ErrTimeout)
	})
	f("a pause over, and nobody has tried yet", false, func(r *Registry) {
		pass, _, _ := e(r).breaker.admit()
		pass.failed("", errors.Join(ErrTimeout))
		e(r).breaker.since = time.Now().Add(-time.Hour)
	})
	f("pause for blobs", false, func(r *Registry) { e(r).allowances[0].limited(blobs, time.Minute) })
	f("most of the rate limit is used", false, func(r *Registry) {
		e(r).allowances[0].observe(http.Header{"Ratelimit-Limit": {"100;w=21600"}, "Ratelimit-Remaining": {"40;w=21600"}})
	})
	f("most of the rate limit is left", true, func(r *Registry) {
		e(r).allowances[0].observe(http.Header{"Ratelimit-Limit": {"100;w=21600"}, "Ratelimit-Remaining": {"90;w=21600"}})
	})
}
