package cache_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
	"mirror/internal/units"
)

// flip inverts one byte of a file, and sees to it that the file has another time of change afterwards: on most file systems
// that moves a few hundred times in a second only.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var b [1]byte
	if _, err := file.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] = ^b[0]
	for before := changed(t, file); changed(t, file) == before; {
		if _, err := file.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
	}
}

// changed returns when an open file was last changed.
func changed(t *testing.T, file *os.File) int64 {
	t.Helper()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return cache.StampOf(info)
}

// inQuarantine lists the files there, oldest first.
func inQuarantine(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "quarantine", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// openLogged opens a cache that is checked and closed when the test ends, with what it logs and counts.
func openLogged(t *testing.T, cfg cache.Config) (*cache.Cache, *bytes.Buffer, *prometheus.Registry) {
	t.Helper()
	log, registry := new(bytes.Buffer), prometheus.NewRegistry()
	c, err := cache.Open(cfg, slog.New(slog.NewTextHandler(log, nil)), registry)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cachetest.Settle(c)
		if err := c.Check(context.Background()); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, log, registry
}

// TestQuarantineOnRead: what a hit finds damaged is kept in quarantine, counted and logged once; what is missing is not.
func TestQuarantineOnRead(t *testing.T) {
	f := func(name string, n, want int, damage func(path string)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			cfg := cachetest.Config(t)
			s := stocked(t, cfg, n)
			c, log, registry := openLogged(t, cfg)
			b, d := content(n)
			path := pathOf(cfg.Dir, d)
			damage(path)
			damaged, _ := os.ReadFile(path)
			for range 2 {
				wantWhole(t, c, newOrigin(b).request(d), b)
				cachetest.Settle(c)
			}
			s.want(t, c)
			kept := inQuarantine(t, cfg.Dir)
			if len(kept) != want || gauge(t, registry, "mirror_cache_quarantined_total", "") != float64(want) {
				t.Fatalf("kept %q, want %d, and as many counted", kept, want)
			}
			if n := strings.Count(log.String(), "WARN"); n != 1 {
				t.Errorf("logged %d warnings, want 1: %s", n, log)
			}
			if want == 0 {
				return
			}
			if got, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(got, damaged) {
				t.Errorf("quarantine has %d bytes, %v, want the %d that were found", len(got), err, len(damaged))
			}
		})
	}
	f("missing", 2*mib, 0, func(path string) { _ = os.Remove(path) })
	f("short", 2*mib, 1, func(path string) { _ = os.Truncate(path, mib) })
	f("long", 2*mib, 1, func(path string) { _ = os.Truncate(path, 3*mib) })
	f("altered and small", 1000, 1, func(path string) { flip(t, path, 999) })
	f("altered and large", 2*mib, 1, func(path string) { flip(t, path, mib) })
}

// damageAll stores contents of those sizes, alters each on the disk, and lets a verification repair that.
func damageAll(t *testing.T, c *cache.Cache, dir string, sizes ...int) {
	t.Helper()
	for _, n := range sizes {
		b, d := content(n)
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
		flip(t, pathOf(dir, d), int64(n/2))
		if seen, err := c.Verify(t.Context(), true, func(oci.Digest, error) {}); err != nil || seen.Damaged != 1 {
			t.Fatalf("verified %+v, %v, want one damaged", seen, err)
		}
	}
}

// TestQuarantineIsBounded: in number and in bytes, across restarts, and it gives way to content.
func TestQuarantineIsBounded(t *testing.T) {
	cfg := cachetest.Config(t)
	cfg.MaxSize = 8 * units.MiB
	c := cachetest.Unchecked(t, cfg)
	var sizes []int
	for i := range 20 {
		sizes = append(sizes, 5000+i)
	}
	damageAll(t, c, cfg.Dir, sizes...)
	if n := len(inQuarantine(t, cfg.Dir)); n != 16 {
		t.Errorf("%d files in quarantine, want 16", n)
	}
	damageAll(t, c, cfg.Dir, 700*kib, 701*kib)
	if n := len(inQuarantine(t, cfg.Dir)); n != 1 {
		t.Errorf("%d files in quarantine, want one, because two are more than an eighth of the limit", n)
	}
	damageAll(t, c, cfg.Dir, 2*mib)
	if n := len(inQuarantine(t, cfg.Dir)); n != 1 {
		t.Errorf("%d files in quarantine, want the one that was there", n)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	c = cachetest.Open(t, cfg)
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	b, d := content(8 * mib)
	wantWhole(t, c, newOrigin(b).request(d), b)
	cachetest.Settle(c)
	if _, ok := c.Stat(d); !ok || len(inQuarantine(t, cfg.Dir)) != 0 {
		t.Error("content that needs all the room was not stored, or the quarantine is still there")
	}
}

// TestQuarantineTwice: the same content may be damaged again, within the same second too.
func TestQuarantineTwice(t *testing.T) {
	cfg := cachetest.Config(t)
	c := cachetest.Open(t, cfg)
	damageAll(t, c, cfg.Dir, 5000, 5000, 5000)
	if n := len(inQuarantine(t, cfg.Dir)); n != 3 {
		t.Errorf("%d files in quarantine, want 3", n)
	}
}

// TestQuarantineFaults: a file that cannot be moved is unlinked, and one that cannot be unlinked either keeps its room.
func TestQuarantineFaults(t *testing.T) {
	for _, failing := range [][]string{{"rename"}, {"rename", "unlink"}} {
		t.Run(strings.Join(failing, " and "), func(t *testing.T) {
			cfg := cachetest.Config(t)
			c := cachetest.Open(t, cfg)
			b, d := content(2 * mib)
			if err := c.Put(d, b); err != nil {
				t.Fatal(err)
			}
			var broken atomic.Bool
			c.SetFault(func(operation string) error {
				for _, op := range failing {
					if broken.Load() && operation == op {
						return syscall.EIO
					}
				}
				return nil
			})
			flip(t, pathOf(cfg.Dir, d), mib)
			broken.Store(true)
			if seen, err := c.Verify(t.Context(), true, func(oci.Digest, error) {}); err != nil || seen.Damaged != 1 {
				t.Errorf("verified %+v, %v, want one damaged", seen, err)
			}
			if err := c.Check(t.Context()); err != nil {
				t.Error(err)
			}
			broken.Store(false)
			wantWhole(t, c, newOrigin(b).request(d), b)
			if n := len(inQuarantine(t, cfg.Dir)); n != 0 {
				t.Errorf("%d files in quarantine, want none", n)
			}
		})
	}
}

// TestCrashBeforeQuarantine: a crash between the record and the file leaves the damaged file where it was. It is found
// again.
func TestCrashBeforeQuarantine(t *testing.T) {
	cfg := cachetest.Config(t)
	stocked(t, cfg, 100)
	b, d := content(2 * mib)
	path := pathOf(cfg.Dir, d)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	flip(t, path, mib)
	c := cachetest.Open(t, cfg)
	var found []oci.Digest
	seen, err := c.Verify(t.Context(), true, func(d oci.Digest, _ error) { found = append(found, d) })
	if err != nil || seen.Blobs != 2 || seen.Damaged != 1 || found[0] != d {
		t.Errorf("verified %+v, found %v, %v, want %v", seen, found, err, d)
	}
	wantWhole(t, c, newOrigin(b).request(d), b)
}

// TestVerifyOnlyReports unless it is told to repair.
func TestVerifyOnlyReports(t *testing.T) {
	cfg := cachetest.Config(t)
	s := stocked(t, cfg, 1000, 2*mib)
	c := cachetest.Open(t, cfg)
	_, d := content(2 * mib)
	path := pathOf(cfg.Dir, d)
	flip(t, path, 0)
	for range 2 {
		seen, err := c.Verify(t.Context(), false, func(oci.Digest, error) {})
		if want := (cache.Verified{Blobs: 2, Bytes: 2*mib + 1000, Damaged: 1}); err != nil || seen != want {
			t.Errorf("verified %+v, %v, want %+v", seen, err, want)
		}
	}
	flip(t, path, 0)
	s.want(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Verify(ctx, true, func(d oci.Digest, err error) { t.Errorf("%s: %v", d, err) }); err == nil {
		t.Error("a verification that was stopped says that it has ended")
	}
}

// TestVerifyDuringUse: content that is removed, evicted and stored anew while it is read is never taken for damaged.
func TestVerifyDuringUse(t *testing.T) {
	c, cfg := limited(t, 2*units.MiB)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 300 {
			b, d := content(100*kib + i%30)
			if err := c.Put(d, b); err != nil {
				t.Error(err)
			}
			if i%3 == 0 {
				_, other := content(100*kib + i%7)
				c.Remove(other)
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		seen, err := c.Verify(t.Context(), true, func(d oci.Digest, err error) { t.Errorf("%s: %v", d, err) })
		if err != nil || seen.Damaged != 0 {
			t.Fatalf("verified %+v, %v, want nothing damaged", seen, err)
		}
	}
	if n := len(inQuarantine(t, cfg.Dir)); n != 0 {
		t.Errorf("%d files in quarantine, want none", n)
	}
}

// TestScrub: one byte that has changed on the disk is found without a request, within the first pass or the next day's,
// at the rate that was set.
func TestScrub(t *testing.T) {
	cfg := cachetest.Config(t)
	cfg.Dir = memoryDir(t)
	cfg.Scrub.Rate = units.Rate(units.MiB)
	stocked(t, cfg, 1000, 4*mib)
	b, d := content(4 * mib)
	flip(t, pathOf(cfg.Dir, d), 3*mib)
	synctest.Test(t, func(t *testing.T) {
		c, log, registry := openLogged(t, cfg)
		want := func(name string, want float64) {
			t.Helper()
			synctest.Wait()
			if got := gauge(t, registry, name, ""); got != want {
				t.Errorf("%s is %.0f, want %.0f", name, got, want)
			}
		}
		time.Sleep(2 * time.Second)
		want("mirror_cache_quarantined_total", 0)
		time.Sleep(3 * time.Second)
		want("mirror_cache_quarantined_total", 1)
		want("mirror_scrub_bytes_total", 4*mib+1000)
		wantWhole(t, c, newOrigin(b).request(d), b)
		cachetest.Settle(c)

		flip(t, pathOf(cfg.Dir, d), 1)
		time.Sleep(23 * time.Hour)
		want("mirror_cache_quarantined_total", 1)
		time.Sleep(2 * time.Hour)
		want("mirror_cache_quarantined_total", 2)
		want("mirror_scrub_bytes_total", 2*(4*mib+1000))
		if n := strings.Count(log.String(), "quarantine"); n != 2 {
			t.Errorf("logged %d times, want once for each file: %s", n, log)
		}
	})
}
