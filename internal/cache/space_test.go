package cache_test

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/units"
)

// fileSystem is one of 100 MiB that holds what the cache has, and what others have.
type fileSystem struct {
	cache  *cache.Cache
	others atomic.Int64
}

func (s *fileSystem) look() (free, all int64) {
	const size = 100 * mib
	return size - s.others.Load() - s.cache.DiskBytes(), size
}

// TestFileSystemFills: when others fill the file system, the cache gives way and keeps min_free free; what does not fit
// passes through, and is stored when there is room again.
func TestFileSystemFills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := cachetest.Config(t)
		cfg.MaxSize, cfg.MinFree, cfg.Memory.MaxSize = units.GiB, 10*units.MiB, 0
		c := cachetest.Open(t, cfg)
		system := &fileSystem{cache: c}
		c.SetSpace(system.look)
		pull := func(from, to int) {
			for n := from; n < to; n++ {
				b, d := content(n * mib)
				startOrPass(c, fill(t, c, newOrigin(b).request(d)), newOrigin(b).request(d), b, 0).complete(t)
				cachetest.Settle(c)
			}
		}
		wantFree := func(least int64) {
			t.Helper()
			if free, _ := system.look(); free < least {
				t.Errorf("%d bytes are free, want at least %d", free, least)
			}
		}
		pull(1, 20) // 190 MiB
		wantFree(10 * mib)
		if got := c.DiskBytes(); got < 60*mib {
			t.Errorf("%d bytes are kept, want most of 90 MiB", got)
		}
		system.others.Store(70 * mib)
		time.Sleep(2 * time.Minute)
		wantFree(10 * mib)
		system.others.Store(95 * mib)
		pull(3, 8)
		if got := c.DiskBytes(); got > 0 {
			t.Errorf("%d bytes are kept on a file system that is full", got)
		}
		system.others.Store(0)
		time.Sleep(time.Minute)
		pull(3, 8)
		if got := c.DiskBytes(); got != 25*mib {
			t.Errorf("%d bytes are kept when there is room again, want 25 MiB", got)
		}
	})
}

// TestOutOfSpaceEvicts: a write that finds the file system full evicts and goes on.
func TestOutOfSpaceEvicts(t *testing.T) {
	cfg := cachetest.Config(t)
	cfg.MaxSize = 100 * units.MiB
	c := cachetest.Open(t, cfg)
	old, oldDigest := content(8 * mib)
	if err := c.Put(oldDigest, old); err != nil {
		t.Fatal(err)
	}
	c.SetFault(func(operation string) error {
		if _, held := c.Stat(oldDigest); operation == "write" && held {
			return syscall.ENOSPC
		}
		return nil
	})
	for n := 3; n < 5; n++ {
		b, d := content(n * mib)
		o := newOrigin(b)
		wantWhole(t, c, o.request(d), b)
		cachetest.Settle(c)
		if got := tier(t, c, d, b); got != cache.TierDisk {
			t.Errorf("tier %d, want disk", got)
		}
		o.wantOnce(t, 0)
	}
	if _, err := c.Open(oldDigest); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("old content: %v", err)
	}
}

// TestLongerThanFileSystem: content for which the file system has no room even without all others is refused before
// anything is evicted for it, and does not keep what fits from being stored.
func TestLongerThanFileSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := cachetest.Config(t)
		cfg.MaxSize, cfg.MinFree, cfg.Memory.MaxSize = units.GiB, 10*units.MiB, 0
		c := cachetest.Open(t, cfg)
		system := &fileSystem{cache: c}
		c.SetSpace(system.look)
		store := func(n int) {
			t.Helper()
			b, d := content(n * mib)
			wantWhole(t, c, newOrigin(b).request(d), b)
			cachetest.Settle(c)
			if _, ok := c.Stat(d); !ok {
				t.Errorf("%d MiB are not stored", n)
			}
		}
		for n := 1; n <= 8; n++ {
			store(n)
		}
		_, d := content(1)
		if err := fill(t, c, cache.Request{Digest: d, Size: 200 * mib}).Ready(t.Context()); !errors.Is(err, cache.ErrNoRoom) {
			t.Errorf("200 MiB on a file system of 100: %v, want no room", err)
		}
		cachetest.Settle(c)
		if got := c.DiskBytes(); got != 36*mib {
			t.Errorf("%d bytes are kept, want all 36 MiB", got)
		}
		store(9)
	})
}
