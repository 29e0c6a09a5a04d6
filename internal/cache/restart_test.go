package cache_test

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
)

// stock is content that a cache has stored before its restart.
type stock map[oci.Digest][]byte

// stocked fills a cache and closes it.
func stocked(t *testing.T, cfg cache.Config, sizes ...int) stock {
	t.Helper()
	c := cachetest.Unchecked(t, cfg)
	s := make(stock)
	for _, n := range sizes {
		b, d := content(n)
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
		s[d] = b
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// want fails the test unless the cache serves the whole stock without a source.
func (s stock) want(t *testing.T, c *cache.Cache) {
	t.Helper()
	for d, b := range s {
		tier(t, c, d, b)
	}
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// pathOf returns where content of the digest is kept.
func pathOf(dir string, d oci.Digest) string {
	return filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
}

func TestRestart(t *testing.T) {
	cfg := cachetest.Config(t)
	s := stocked(t, cfg, 0, 1, 1000, 2*mib)
	partial := filepath.Join(cfg.Dir, "partial", "sha256-0123.7")
	foreign := filepath.Join(cfg.Dir, "blobs", "sha256", "README")
	for _, name := range []string{partial, foreign} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.want(t, cachetest.Open(t, cfg))
	if _, err := os.Stat(partial); !os.IsNotExist(err) {
		t.Errorf("the partial file is still there: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a file that is not ours was touched: %v", err)
	}
}

// TestRestartDuringFill: what was not complete is not there after a restart. Readers of a fill that is closed get a short
// body.
func TestRestartDuringFill(t *testing.T) {
	cfg := cachetest.Config(t)
	b, d := content(2 * mib)
	o := newOrigin(b)
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Unchecked(t, cfg)
		open := o.close(mib, 2*mib)
		defer open()
		reader := start(fill(t, c, o.request(d)), b, 0, -1)
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		reader.short(t, cache.ErrClosed)
	})
	c := cachetest.Open(t, cfg)
	if _, ok := c.Stat(d); ok {
		t.Error("half a blob is complete after the restart")
	}
	wantWhole(t, c, newOrigin(b).request(d), b)
}

// TestContentWithoutRecord: a file that got its name before a crash, and no record, is there after the restart.
func TestContentWithoutRecord(t *testing.T) {
	cfg := cachetest.Config(t)
	s := stocked(t, cfg, 100)
	b, d := content(5000)
	path := pathOf(cfg.Dir, d)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s[d] = b
	c := cachetest.Open(t, cfg)
	if err := c.Check(t.Context()); err != nil { // waits for the search
		t.Error(err)
	}
	s.want(t, c)
}

// TestStrangersAmongContent: when the index is made anew from the files, what others have put among them is left where it
// is and does not become content.
func TestStrangersAmongContent(t *testing.T) {
	cfg := cachetest.Config(t)
	s := stocked(t, cfg, 1, 1000)
	index := filepath.Join(cfg.Dir, "index.db")
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	_, d := content(5)
	misplaced := filepath.Join(cfg.Dir, "blobs", "sha256", "00", d.Encoded()) // another first byte
	directory := pathOf(cfg.Dir, d)
	note := filepath.Join(filepath.Dir(directory), "note")
	file := filepath.Join(cfg.Dir, "blobs", "sha512", "00")
	if err := errors.Join(
		os.MkdirAll(filepath.Dir(misplaced), 0o700), os.MkdirAll(directory, 0o700),
		os.WriteFile(misplaced, []byte("x"), 0o600), os.WriteFile(note, []byte("x"), 0o600), os.WriteFile(file, []byte("x"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	c := cachetest.Unchecked(t, cfg)
	found := 0
	c.Contents(func(cache.Content) { found++ })
	if found != len(s) {
		t.Errorf("%d contents are found, want %d", found, len(s))
	}
	for d, b := range s {
		tier(t, c, d, b)
	}
	for _, path := range []string{misplaced, directory, note, file} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// TestContentWithoutRecordIsFilled: the search for such files meets fills of the same content that work or fail.
func TestContentWithoutRecordIsFilled(t *testing.T) {
	for try := range 10 {
		cfg := cachetest.Config(t)
		stocked(t, cfg, 1)
		b, d := content(5000)
		path := pathOf(cfg.Dir, d)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c := cachetest.Open(t, cfg)
		o := newOrigin(b)
		if try%2 == 0 {
			o.down = errDown
		}
		_ = fill(t, c, o.request(d)).Ready(t.Context()) // fails unless the file was found in time
		if err := c.Check(t.Context()); err != nil {
			t.Error(err)
		}
		tier(t, c, d, b)
	}
}

// TestDamagedIndex: whatever happens to the index file, the cache starts and has its content.
func TestDamagedIndex(t *testing.T) {
	f := func(name string, damage func(path string, index []byte) error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			cfg := cachetest.Config(t)
			cfg.Dir = memoryDir(t)
			var sizes []int
			for i := range 120 { // so that the records take several pages
				sizes = append(sizes, 10+i)
			}
			s := stocked(t, cfg, sizes...)
			path := filepath.Join(cfg.Dir, "index.db")
			index, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(path, index); err != nil {
				t.Fatal(err)
			}
			s.want(t, cachetest.Open(t, cfg))
		})
	}
	f("deleted", func(path string, _ []byte) error { return os.Remove(path) })
	f("empty", func(path string, _ []byte) error { return os.Truncate(path, 0) })
	for _, length := range []int64{1, 100, 4096, 8192, 3 * 4096, 4 * 4096, 5 * 4096} {
		f("truncated", func(path string, _ []byte) error { return os.Truncate(path, length) })
	}
	f("other file", func(path string, _ []byte) error {
		return os.WriteFile(path, bytes.Repeat([]byte("no index "), 10000), 0o600)
	})
	f("zeros behind the meta pages", func(path string, index []byte) error {
		clear(index[2*4096:])
		return os.WriteFile(path, index, 0o600)
	})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 8 {
		f("random bytes in a page", func(path string, index []byte) error {
			page := random.IntN(len(index)/4096) * 4096
			for i := range 4096 {
				index[page+i] = byte(random.Uint32())
			}
			return os.WriteFile(path, index, 0o600)
		})
	}
}

// TestDamagedContent: a file that is missing, short, or altered where that is cheap to see, is taken out of service when
// it is opened, and fetched again within the same request.
func TestDamagedContent(t *testing.T) {
	f := func(name string, n int, damage func(path string) error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			cfg := cachetest.Config(t)
			s := stocked(t, cfg, n)
			c := cachetest.Open(t, cfg)
			for d, b := range s {
				if err := damage(pathOf(cfg.Dir, d)); err != nil {
					t.Fatal(err)
				}
				wantWhole(t, c, newOrigin(b).request(d), b)
				cachetest.Settle(c)
			}
			s.want(t, c)
		})
	}
	for _, n := range []int{1000, 2 * mib} {
		f("missing", n, os.Remove)
		f("short", n, func(path string) error { return os.Truncate(path, int64(n-1)) })
		f("empty", n, func(path string) error { return os.Truncate(path, 0) })
	}
	f("long", 2*mib, func(path string) error { return os.Truncate(path, 2*mib+1) })
	f("altered", 1000, func(path string) error { return os.WriteFile(path, make([]byte, 1000), 0o600) })
}

// TestSecondOwner: a directory belongs to one cache at a time; the refusal says what to do.
func TestSecondOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := cachetest.Config(t)
		c := cachetest.Open(t, cfg)
		b, d := content(100)
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
		_, err := cache.Open(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err == nil || !strings.Contains(err.Error(), "cache.dir") || !strings.Contains(err.Error(), cfg.Dir) {
			t.Errorf("second open: %v, want a refusal that names %s and cache.dir", err, cfg.Dir)
		}
		tier(t, c, d, b)
	})
}

// TestUnusableDirectory: the error names the setting.
func TestUnusableDirectory(t *testing.T) {
	cfg := cachetest.Config(t)
	file := filepath.Join(cfg.Dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = file
	if _, err := cache.Open(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err == nil || !strings.Contains(err.Error(), "cache.dir") {
		t.Errorf("got %v, want an error that names cache.dir", err)
	}
}

// TestRecencySurvivesRestart: what was used last before a restart is evicted last after it.
func TestRecencySurvivesRestart(t *testing.T) {
	cfg := cachetest.Config(t)
	cfg.MaxSize = 3 * mib
	one, oneDigest := content(mib)
	two, twoDigest := content(mib + 1)
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Unchecked(t, cfg)
		if err := c.Put(oneDigest, one); err != nil {
			t.Fatal(err)
		}
		sleepSeconds(120)
		if err := c.Put(twoDigest, two); err != nil {
			t.Fatal(err)
		}
		sleepSeconds(120)
		tier(t, c, oneDigest, one)
	})
	c := cachetest.Open(t, cfg)
	three, threeDigest := content(mib + 2)
	if err := c.Put(threeDigest, three); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Stat(oneDigest); !ok {
		t.Error("the content used last was evicted")
	}
	if _, ok := c.Stat(twoDigest); ok {
		t.Error("the content used longest ago is still there")
	}
}
