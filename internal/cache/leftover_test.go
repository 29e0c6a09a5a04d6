package cache_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/units"
)

// TestLeftovers: while nothing can be unlinked, what should be gone stays accounted for; afterwards it goes by itself.
func TestLeftovers(t *testing.T) {
	f := func(name string, broken []string, use func(*testing.T, *cache.Cache)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := cachetest.Config(t)
				cfg.MaxSize = 4 * units.MiB
				c := cachetest.Open(t, cfg)
				var works atomic.Bool
				c.SetFault(func(operation string) error {
					if !works.Load() && slices.Contains(broken, operation) {
						return syscall.EROFS
					}
					return nil
				})
				use(t, c)
				cachetest.Settle(c)
				synctest.Wait()
				if err := c.Check(t.Context()); err != nil {
					t.Errorf("while nothing can be unlinked: %v", err)
				}
				works.Store(true)
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				left, err := filepath.Glob(filepath.Join(cfg.Dir, "partial", "*"))
				if err != nil || len(left) > 0 {
					t.Errorf("partial files are left: %v, %v", left, err)
				}
				b, d := content(4*mib - 10) // needs all the room
				wantWhole(t, c, newOrigin(b).request(d), b)
				cachetest.Settle(c)
				if _, ok := c.Stat(d); !ok {
					t.Error("there is no room after everything has been removed")
				}
			})
		})
	}
	b, d := content(2 * mib)
	f("removed content", []string{"unlink"}, func(t *testing.T, c *cache.Cache) {
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
		c.Remove(d)
		if _, err := c.Open(d); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("open of removed content: %v", err)
		}
	})
	f("removed content that is stored again", []string{"unlink"}, func(t *testing.T, c *cache.Cache) {
		for range 2 {
			if err := c.Put(d, b); err != nil {
				t.Fatal(err)
			}
			c.Remove(d)
		}
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
	})
	f("empty content", []string{"unlink"}, func(t *testing.T, c *cache.Cache) {
		empty, d := content(0)
		if err := c.Put(d, empty); err != nil {
			t.Fatal(err)
		}
		c.Remove(d)
	})
	f("wrong content", []string{"unlink"}, func(t *testing.T, c *cache.Cache) {
		o := newOrigin(b)
		o.wrong = []int64{mib}
		start(fill(t, c, o.request(d)), b, 0, -1).short(t, cache.ErrWrongContent)
	})
	f("content with a name and no entry", []string{"unlink", "sync directory"}, func(t *testing.T, c *cache.Cache) {
		wantWhole(t, c, newOrigin(b).request(d), b)
		cachetest.Settle(c)
		if _, ok := c.Stat(d); ok {
			t.Error("the content is stored although its directory could not be synced")
		}
	})
	f("nothing to evict", []string{"unlink"}, func(t *testing.T, c *cache.Cache) {
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
		other, otherDigest := content(3 * mib)
		if err := c.Put(otherDigest, other); !errors.Is(err, cache.ErrNoRoom) {
			t.Errorf("put without room: %v", err)
		}
	})
}

// TestNotStored: content that cannot be stored still reaches readers that had not opened its file yet.
func TestNotStored(t *testing.T) {
	for _, n := range []int{1000, 2 * mib} {
		before := descriptors(t)
		cfg := cachetest.Config(t)
		c := cachetest.Unchecked(t, cfg)
		c.SetFault(func(operation string) error {
			if operation == "rename" {
				return syscall.EIO
			}
			return nil
		})
		b, d := content(n)
		blob := fill(t, c, newOrigin(b).request(d))
		cachetest.Settle(c)
		wantRange(t, blob, 0, b)
		wantRange(t, blob, int64(n-10), b[n-10:])
		if _, err := blob.WriteRange(&writer{fail: 1}, 0, -1); !errors.Is(err, errGone) {
			t.Errorf("got %v, want the error of the writer", err)
		}
		_ = blob.Close()
		if err := errors.Join(c.Check(t.Context()), c.Close()); err != nil {
			t.Error(err)
		}
		if after := descriptors(t); after > before {
			t.Errorf("%d descriptors are open, %d were before", after, before)
		}
		if _, err := os.Stat(pathOf(cfg.Dir, d)); !os.IsNotExist(err) {
			t.Errorf("the content has a name: %v", err)
		}
	}
}

// TestNothingCanBeUnlinked: on a file system that has become read-only, what is stored is served on. Taking it out of
// service makes no room.
func TestNothingCanBeUnlinked(t *testing.T) {
	const blobs = 100
	cfg := cachetest.Config(t)
	cfg.MaxSize, cfg.Memory.MaxSize = blobs*10*units.KiB, 0
	c := cachetest.Open(t, cfg)
	for n := range blobs {
		b, d := content(10*kib - n)
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
	}
	var mended atomic.Bool
	c.SetFault(func(operation string) error {
		if operation == "unlink" && !mended.Load() {
			return syscall.EROFS
		}
		return nil
	})
	for n := range blobs {
		b, d := content(20*kib - n)
		if err := c.Put(d, b); !errors.Is(err, cache.ErrNoRoom) {
			t.Fatalf("put: %v, want no room", err)
		}
	}
	held := 0
	c.Contents(func(cache.Content) { held++ })
	if held < blobs*3/4 {
		t.Errorf("%d of %d contents are still served", held, blobs)
	}
	mended.Store(true)
	b, d := content(200 * kib)
	if err := c.Put(d, b); err != nil {
		t.Errorf("put when files can be unlinked again: %v", err)
	}
}
