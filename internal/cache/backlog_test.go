package cache_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
)

// TestIndexCannotBeWritten: content is stored, served and removed all the same, one warning is logged, and the index file
// catches up as soon as that is possible.
func TestIndexCannotBeWritten(t *testing.T) {
	cfg := cachetest.Config(t)
	s := stocked(t, cfg, 1000, 2000)
	c, log, _ := openLogged(t, cfg)
	var full atomic.Bool
	c.SetFault(func(operation string) error {
		if full.Load() && operation == "index" {
			return syscall.ENOSPC
		}
		return nil
	})
	full.Store(true)
	for _, n := range []int{0, 3000, 2 * mib} {
		b, d := content(n)
		wantWhole(t, c, newOrigin(b).request(d), b)
		cachetest.Settle(c)
		s[d] = b
	}
	_, removed := content(1000)
	c.Remove(removed)
	delete(s, removed)
	for d, b := range s {
		tier(t, c, d, b)
	}
	if err := c.Check(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("check: %v, want %v", err, syscall.ENOSPC)
	}
	if n := strings.Count(log.String(), "WARN"); n != 1 {
		t.Errorf("logged %d warnings, want 1: %s", n, log)
	}
	full.Store(false)
	s.want(t, c)
}

// TestIndexCatchesUpAtClose: what could not be written before is there after a restart, and what was removed is not.
func TestIndexCatchesUpAtClose(t *testing.T) {
	cfg := cachetest.Config(t)
	s := stocked(t, cfg, 100)
	c := cachetest.Unchecked(t, cfg)
	var full atomic.Bool
	full.Store(true)
	c.SetFault(func(operation string) error {
		if full.Load() && operation == "index" {
			return syscall.EIO
		}
		return nil
	})
	b, d := content(200)
	if err := c.Put(d, b); err != nil {
		t.Fatal(err)
	}
	s[d] = b
	_, gone := content(100)
	c.Remove(gone)
	delete(s, gone)
	full.Store(false)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = cachetest.Open(t, cfg)
	s.want(t, c)
	if _, err := c.Open(gone); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("removed content: %v, want ErrNotFound", err)
	}
}
