package cache_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
)

// touch changes a file without changing its bytes, and when it was changed.
func touch(t *testing.T, path string) {
	t.Helper()
	flip(t, path, 0)
	flip(t, path, 0)
}

// TestRecheck: large content whose file has changed is read before it is served again, once; if its bytes are right it is
// served, in this run and the next.
func TestRecheck(t *testing.T) {
	cfg := cachetest.Config(t)
	s := stocked(t, cfg, 1000, 2*mib)
	_, d := content(2 * mib)
	f := func(name string, want float64, change func()) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			change()
			c, log, registry := openLogged(t, cfg)
			for range 3 {
				s.want(t, c)
			}
			if got := gauge(t, registry, "mirror_cache_rechecked_total", ""); got != want {
				t.Errorf("%.0f contents were read again, want %.0f", got, want)
			}
			if log.Len() > 0 && name != "no index" {
				t.Errorf("logged %s", log)
			}
		})
	}
	f("nothing", 0, func() {})
	f("touched", 1, func() { touch(t, pathOf(cfg.Dir, d)) })
	f("nothing since", 0, func() {})
	f("no index", 1, func() { _ = os.Remove(filepath.Join(cfg.Dir, "index.db")) })
	f("nothing since then", 0, func() {})
}

// TestRecheckOnce: readers that come at once wait for the same reading, and all find the content damaged or right.
func TestRecheckOnce(t *testing.T) {
	f := func(name string, damage func(t *testing.T, path string), want float64) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			cfg := cachetest.Config(t)
			stocked(t, cfg, 2*mib)
			b, d := content(2 * mib)
			damage(t, pathOf(cfg.Dir, d))
			c, _, registry := openLogged(t, cfg)
			o := newOrigin(b)
			var readers sync.WaitGroup
			for range 20 {
				readers.Go(func() { wantWhole(t, c, o.request(d), b) })
			}
			readers.Wait()
			cachetest.Settle(c)
			if got := gauge(t, registry, "mirror_cache_quarantined_total", ""); got != want {
				t.Errorf("%.0f contents in quarantine, want %.0f", got, want)
			}
			if got := o.deliveredBytes(); got != int64(want)*2*mib {
				t.Errorf("%d bytes were fetched, want %.0f times all", got, want)
			}
		})
	}
	f("right", touch, 0)
	f("damaged", func(t *testing.T, path string) { flip(t, path, mib) }, 1)
}

// TestCloseDuringRecheck: content that could not be read to its end because the cache is closing is not taken for damaged.
func TestCloseDuringRecheck(t *testing.T) {
	cfg := cachetest.Config(t)
	s := stocked(t, cfg, 2*mib)
	_, d := content(2 * mib)
	touch(t, pathOf(cfg.Dir, d))
	c := cachetest.Unchecked(t, cfg)
	reading, resume := make(chan struct{}), make(chan struct{})
	first := sync.OnceFunc(func() { close(reading) })
	c.SetFault(func(operation string) error {
		if operation == "read" {
			first()
			<-resume
		}
		return nil
	})
	done := make(chan error)
	go func() {
		_, err := c.Open(d)
		done <- err
	}()
	<-reading
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	close(resume)
	if err := <-done; !errors.Is(err, cache.ErrClosed) {
		t.Errorf("open: %v, want ErrClosed", err)
	}
	s.want(t, cachetest.Open(t, cfg))
	if kept := inQuarantine(t, cfg.Dir); len(kept) > 0 {
		t.Errorf("%q are in quarantine", kept)
	}
}

// TestRecheckDuringChange: a file that is changed while it is read again is read once more before it is served.
func TestRecheckDuringChange(t *testing.T) {
	cfg := cachetest.Config(t)
	stocked(t, cfg, 2*mib)
	b, d := content(2 * mib)
	touch(t, pathOf(cfg.Dir, d))
	c, _, _ := openLogged(t, cfg)
	var reads atomic.Int32
	c.SetFault(func(operation string) error {
		if operation == "read" && reads.Add(1) == 3 {
			flip(t, pathOf(cfg.Dir, d), 0) // which has been read
		}
		return nil
	})
	wantWhole(t, c, newOrigin(b).request(d), b)
	cachetest.Settle(c)
}
