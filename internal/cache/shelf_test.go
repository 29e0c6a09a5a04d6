package cache_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
)

// openBlobs counts the open files of complete content below dir, those that have no name any more included.
func openBlobs(t *testing.T, dir string) (n int) {
	t.Helper()
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if path, err := os.Readlink(name); err == nil && strings.HasPrefix(path, filepath.Join(dir, "blobs")) {
			n++
		}
	}
	return n
}

// countOpens has every opening of a file counted.
func countOpens(c *cache.Cache) *atomic.Int64 {
	opens := new(atomic.Int64)
	c.SetFault(func(operation string) error {
		if operation == "open" {
			opens.Add(1)
		}
		return nil
	})
	return opens
}

// opened opens stored content n times at once.
func opened(t *testing.T, c *cache.Cache, d oci.Digest, n int) []*cache.Blob {
	t.Helper()
	all := make([]*cache.Blob, n)
	for i := range all {
		var err error
		if all[i], err = c.Stored(d); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func closeAll(t *testing.T, all []*cache.Blob) {
	t.Helper()
	for _, b := range all {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestFilesStayOpen: readers one after the other need one open file, readers at once one each, and no more stay open than
// there is place for.
func TestFilesStayOpen(t *testing.T) {
	cfg := cachetest.Config(t)
	stocked(t, cfg, 2*mib, 3*mib)
	c := cachetest.Open(t, cfg)
	opens := countOpens(c)
	want, d := content(2 * mib)
	_, other := content(3 * mib)
	both := func() { closeAll(t, append(opened(t, c, d, 1), opened(t, c, other, 1)...)) }
	f := func(name string, wantOpens int64, wantKept int, read func()) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			opens.Store(0)
			read()
			if got := opens.Load(); got != wantOpens {
				t.Errorf("%d files were opened, want %d", got, wantOpens)
			}
			if got := openBlobs(t, cfg.Dir); got != wantKept {
				t.Errorf("%d files are open, want %d", got, wantKept)
			}
		})
	}
	f("first", 2, 2, both)
	f("one after the other", 0, 2, func() { both(); both() })
	f("two at once", 1, 3, func() { closeAll(t, opened(t, c, d, 2)) })
	f("two at once again", 0, 3, func() { closeAll(t, opened(t, c, d, 2)) })
	f("parts of two at once", 0, 3, func() {
		two := opened(t, c, d, 2)
		defer closeAll(t, two)
		for _, off := range []int64{5, mib, 0} {
			for _, b := range two {
				var got strings.Builder
				if _, err := b.WriteRange(&got, off, mib); err != nil || got.String() != string(want[off:off+mib]) {
					t.Errorf("bytes from %d on are wrong, or %v", off, err)
				}
			}
		}
	})
	f("many", 68, 64, func() { closeAll(t, opened(t, c, d, 70)) })
	f("after many", 0, 64, func() { closeAll(t, opened(t, c, d, 64)) })
}

// TestFilesLeaveTheShelf: content that was removed has no open file that nobody reads, and one that was changed is not served
// from a file that was left open.
func TestFilesLeaveTheShelf(t *testing.T) {
	want, d := content(2 * mib)
	f := func(name string, kept int, change func(t *testing.T, c *cache.Cache, path string)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			cfg := cachetest.Config(t)
			s := stocked(t, cfg, 2*mib)
			c := cachetest.Open(t, cfg)
			s.want(t, c)
			change(t, c, pathOf(cfg.Dir, d))
			if got := openBlobs(t, cfg.Dir); got != kept {
				t.Errorf("%d files are open, want %d", got, kept)
			}
		})
	}
	missing := func(t *testing.T, c *cache.Cache) {
		t.Helper()
		if _, err := c.Stored(d); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("open: %v, want ErrNotFound", err)
		}
	}
	f("removed", 0, func(_ *testing.T, c *cache.Cache, _ string) { c.Remove(d) })
	f("removed while it is read", 0, func(t *testing.T, c *cache.Cache, _ string) {
		b := opened(t, c, d, 2)
		c.Remove(d)
		for _, b := range b {
			if n, err := b.WriteRange(io.Discard, 0, -1); n != 2*mib || err != nil {
				t.Errorf("read %d bytes: %v", n, err)
			}
		}
		closeAll(t, b)
	})
	f("stored again", 1, func(t *testing.T, c *cache.Cache, _ string) {
		old := opened(t, c, d, 1)
		c.Remove(d)
		wantWhole(t, c, newOrigin(want).request(d), want)
		cachetest.Settle(c)
		closeAll(t, opened(t, c, d, 1))
		closeAll(t, old)
	})
	f("touched", 1, func(t *testing.T, c *cache.Cache, path string) {
		touch(t, path)
		wantWhole(t, c, newOrigin(want).request(d), want)
	})
	f("damaged", 0, func(t *testing.T, c *cache.Cache, path string) { flip(t, path, mib); missing(t, c) })
	f("cut", 0, func(t *testing.T, c *cache.Cache, path string) {
		if err := os.Truncate(path, mib); err != nil {
			t.Fatal(err)
		}
		missing(t, c)
	})
	f("unlinked by somebody else", 0, func(t *testing.T, c *cache.Cache, path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		missing(t, c)
	})
	f("replaced by somebody else", 0, func(t *testing.T, c *cache.Cache, path string) {
		if err := errors.Join(os.WriteFile(path+"~", make([]byte, 2*mib), 0o600), os.Rename(path+"~", path)); err != nil {
			t.Fatal(err)
		}
		missing(t, c)
	})
}

// TestShelfEndsWithTheCache: neither what lies there nor what is put back later stays open.
func TestShelfEndsWithTheCache(t *testing.T) {
	cfg := cachetest.Config(t)
	stocked(t, cfg, 2*mib)
	_, d := content(2 * mib)
	c := cachetest.Unchecked(t, cfg)
	two := opened(t, c, d, 2)
	closeAll(t, two[:1])
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if got := openBlobs(t, cfg.Dir); got != 1 {
		t.Errorf("%d files are open, want that of the reader", got)
	}
	closeAll(t, two[1:])
	if got := openBlobs(t, cfg.Dir); got != 0 {
		t.Errorf("%d files are open, want none", got)
	}
}
