package cache_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
)

// openOn opens a cache on a machine that was started under the name boot, and closes it at the end.
func openOn(t *testing.T, boot string, cfg cache.Config) *cache.Cache {
	t.Helper()
	c, err := cache.OpenOn(boot, cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// filePath is where the file of complete content is.
func filePath(cfg cache.Config, d oci.Digest) string {
	return filepath.Join(cfg.Dir, "blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
}

// powerCut makes the directory of a run that has ended look as if the machine had stopped: the note is there again, with
// the time of the last sync, and the content d has lost a byte.
func powerCut(t *testing.T, cfg cache.Config, boot string, synced time.Time, d oci.Digest) {
	t.Helper()
	note := filepath.Join(cfg.Dir, "unsynced")
	content, err := os.ReadFile(filePath(cfg, d))
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	err = errors.Join(os.WriteFile(note, []byte(boot), 0o600), os.Chtimes(note, synced, synced), os.WriteFile(filePath(cfg, d), content, 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

// TestLossOfPower: what a lazy run had stored since its last sync is compared with its digests after the machine has stopped, and
// trusted after a mere kill, or when it is older. Afterwards the run that found it is as good as any.
func TestLossOfPower(t *testing.T) {
	const n = 2 * mib // more than is verified on each open
	good, goodDigest := content(n)
	bad, badDigest := content(n + 1)
	f := func(name, boot string, since time.Duration, next string, kept bool) {
		t.Run(name, func(t *testing.T) {
			cfg := cachetest.Config(t)
			cfg.Sync = cache.SyncLazy
			c := openOn(t, "first", cfg)
			if err := errors.Join(c.Put(goodDigest, good), c.Put(badDigest, bad), c.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(cfg.Dir, "unsynced")); err == nil {
				t.Error("a clean stop leaves doubts")
			}
			powerCut(t, cfg, boot, time.Now().Add(since), badDigest)
			cfg.Sync = next
			c = openOn(t, "second", cfg)
			if err := c.Check(t.Context()); kept != (err != nil) {
				t.Errorf("damaged content is kept: %v, want %v", err, kept)
			}
			if size, ok := c.Stat(goodDigest); !ok || size != n {
				t.Error("good content is lost")
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if kept {
				return
			}
			c = openOn(t, "third", cfg)
			wantWhole(t, c, newOrigin(bad).request(badDigest), bad)
			cachetest.Settle(c)
			if err := c.Check(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	f("stopped", "first", -time.Minute, cache.SyncLazy, false)
	f("stopped, and no longer lazy", "first", -time.Minute, cache.SyncAlways, false)
	f("stopped on a machine that does not count its starts", "", -time.Minute, cache.SyncLazy, false)
	f("killed", "second", -time.Minute, cache.SyncLazy, true)
	f("synced since", "first", time.Minute, cache.SyncLazy, true)
}

// TestLazyRunIsNoted: while a lazy run goes on, a loss of power would be noticed.
func TestLazyRunIsNoted(t *testing.T) {
	cfg := cachetest.Config(t)
	cfg.Sync = cache.SyncLazy
	openOn(t, "first", cfg)
	if note, err := os.ReadFile(filepath.Join(cfg.Dir, "unsynced")); err != nil || string(note) != "first" {
		t.Errorf("got %q, %v", note, err)
	}
}

// TestNoteCannotBeWritten: a data directory without room for the note of a lazy run, a full one for example, does not keep
// the mirror from starting. The run syncs everything then, because nobody would know of what it did not.
func TestNoteCannotBeWritten(t *testing.T) {
	cfg := cachetest.Config(t)
	cfg.Sync = cache.SyncLazy
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "unsynced.new", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	c, log, _ := openLogged(t, cfg)
	b, d := content(2 * mib)
	wantWhole(t, c, newOrigin(b).request(d), b)
	if !strings.Contains(log.String(), "cache.sync") {
		t.Errorf("logged %q, want a word about cache.sync", log)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "unsynced")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("note: %v", err)
	}
}
