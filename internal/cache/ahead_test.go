package cache_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
	"mirror/internal/units"
)

// ahead starts a fill that nobody has asked for, and lets go of it when its source has answered.
func ahead(t *testing.T, c *cache.Cache, r cache.Request) (done <-chan struct{}) {
	t.Helper()
	b, err := c.FillAhead(r)
	if err != nil || b == nil {
		t.Fatalf("no fill: %v, %v", b, err)
	}
	if err := b.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	done = b.Done()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return done
}

// TestFillAheadTakesOneConnection until somebody wants the content; then it takes as many as any other fill.
func TestFillAheadTakesOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 48 * mib
		c := cachetest.Open(t, cachetest.Config(t))
		c.SetParallel(8*mib, 2*mib, 1)
		b, d := content(n)
		o := newOrigin(b)
		l := &link{latency: 30 * time.Millisecond, each: 4 * mib}
		r := o.request(d)
		r.Hint, r.From = n, l.from(o)
		done := ahead(t, c, r)
		time.Sleep(3 * time.Second)
		if p := c.Filling()[0]; !p.Ahead || p.Readers != 0 || p.Fetches != 1 || l.most != 1 {
			t.Errorf("ahead: %+v, %d connections", p, l.most)
		}
		reader := start(fill(t, c, r), b, 0, -1)
		time.Sleep(2 * time.Second)
		if p := c.Filling()[0]; p.Ahead || p.Readers != 1 || p.Fetches < 2 {
			t.Errorf("asked for: %+v", p)
		}
		reader.complete(t)
		<-done
		o.wantOnce(t, 4*inFlight)
	})
}

// TestFillAheadIsGivenUp like any other fill that nobody reads, and what it has brought is kept.
func TestFillAheadIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		c.SetAbandonSize(4 * mib)
		b, d := content(8 * mib)
		o := newOrigin(b)
		l := &link{each: 64 * kib}
		r := o.request(d)
		r.From = l.from(o)
		begun := time.Now()
		<-ahead(t, c, r)
		if took := time.Since(begun); took < 30*time.Second || took > 40*time.Second {
			t.Errorf("it was given up after %v", took)
		}
		r.From = o.from
		wantWhole(t, c, r, b)
		o.wantOnce(t, 4*inFlight)
	})
}

// TestFillAheadOfWhatIsHere starts nothing.
func TestFillAheadOfWhatIsHere(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	b, d := content(2 * mib)
	o := newOrigin(b)
	open := o.close(mib, 2*mib)
	reader := start(fill(t, c, o.request(d)), b, 0, -1)
	if again, err := c.FillAhead(o.request(d)); again != nil || err != nil {
		t.Errorf("while it is being filled: %v, %v", again, err)
	}
	open()
	reader.complete(t)
	cachetest.Settle(c)
	if again, err := c.FillAhead(o.request(d)); again != nil || err != nil {
		t.Errorf("when it is stored: %v, %v", again, err)
	}
	stored, err := c.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	<-stored.Done()
}

// TestFillAheadFails tells whoever started it, and nobody else.
func TestFillAheadFails(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	b, d := content(2 * mib)
	o := newOrigin(b)
	o.down = errDown
	started, err := c.FillAhead(o.request(d))
	if err != nil {
		t.Fatal(err)
	}
	if err := started.Ready(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("ready: %v", err)
	}
	<-started.Done()
	started.Close()
	o.set(func(o *origin) { o.down = nil })
	wantWhole(t, c, o.request(d), b)
}

// TestSpare: content that nobody has asked for gets what is free, and what holds content that was used once, some time ago.
func TestSpare(t *testing.T) {
	f := func(name string, pass time.Duration, uses int, n int64, want bool) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := cachetest.Config(t)
				cfg.MaxSize = 16 * units.MiB
				c := cachetest.Open(t, cfg)
				var held []oci.Digest
				for i := range 6 {
					b, d := content(2*mib + i)
					wantWhole(t, c, newOrigin(b).request(d), b)
					held = append(held, d)
				}
				cachetest.Settle(c)
				for range uses {
					time.Sleep(2 * time.Minute)
					for _, d := range held {
						fill(t, c, cache.Request{Digest: d}).Close()
					}
				}
				time.Sleep(pass)
				if got := c.Spare(n); got != want {
					t.Errorf("room for %d bytes: %v", n, got)
				}
			})
		})
	}
	f("free", 0, 0, 3*mib, true)
	f("held by what came just now", 0, 0, 6*mib, false)
	f("held by what came long ago", time.Hour, 0, 6*mib, true)
	f("held by what is used", time.Hour, 1, 6*mib, false)
	f("more than there is", time.Hour, 0, 17*mib, false)
}
