package cache_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
	"mirror/internal/units"
)

// closable opens a cache like limited, for a test that closes it.
func closable(t *testing.T) (*cache.Cache, cache.Config) {
	cfg := cachetest.Config(t)
	cfg.Dir = memoryDir(t)
	cfg.MaxSize, cfg.Memory.MaxSize = 4*units.MiB, 0
	return cachetest.Unchecked(t, cfg), cfg
}

// press puts so much other content that everything goes that may.
func press(t *testing.T, c *cache.Cache) {
	t.Helper()
	for i := range 20 {
		b, d := content(400*kib + i)
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
	}
	cachetest.Settle(c)
}

// wantPinned checks that content is there and pinned, or neither.
func wantPinned(t *testing.T, c *cache.Cache, d oci.Digest, want bool) {
	t.Helper()
	if got, ok := c.Content(d); ok != want || got.Pinned != want {
		t.Errorf("stored %v and pinned %v, want both %v", ok, got.Pinned, want)
	}
}

// TestPins: what is pinned stays under pressure and over a restart, whether it was pinned before it came or after, and goes
// in its turn when it is unpinned.
func TestPins(t *testing.T) {
	c, cfg := closable(t)
	early, earlyDigest := content(mib)
	late, lateDigest := content(mib / 2)
	if err := c.Pin(earlyDigest); err != nil {
		t.Fatal(err)
	}
	for d, b := range map[oci.Digest][]byte{earlyDigest: early, lateDigest: late} {
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Pin(lateDigest, earlyDigest); err != nil {
		t.Fatal(err)
	}
	press(t, c)
	wantPinned(t, c, earlyDigest, true)
	wantPinned(t, c, lateDigest, true)

	if err := errors.Join(c.Check(t.Context()), c.Close()); err != nil {
		t.Fatal(err)
	}
	c = cachetest.Open(t, cfg)
	press(t, c)
	wantPinned(t, c, earlyDigest, true)
	if err := c.Unpin(earlyDigest); err != nil {
		t.Fatal(err)
	}
	press(t, c)
	wantPinned(t, c, earlyDigest, false)
	wantPinned(t, c, lateDigest, true)
}

// TestPinnedIsRemoved: a removal does not ask whether content is pinned, and the pin waits for the content to come again.
func TestPinnedIsRemoved(t *testing.T) {
	c, _ := limited(t, 4*units.MiB)
	b, d := content(mib)
	for range 2 {
		if err := errors.Join(c.Put(d, b), c.Pin(d)); err != nil {
			t.Fatal(err)
		}
		wantPinned(t, c, d, true)
		if !c.Remove(d) {
			t.Error("pinned content was not removed")
		}
		wantPinned(t, c, d, false)
	}
}

// TestPinsOutliveTheIndex: an index that is made anew knows what is pinned.
func TestPinsOutliveTheIndex(t *testing.T) {
	c, cfg := closable(t)
	b, d := content(mib)
	if err := errors.Join(c.Put(d, b), c.Pin(d), c.Close(), os.Remove(filepath.Join(cfg.Dir, "index.db"))); err != nil {
		t.Fatal(err)
	}
	wantPinned(t, cachetest.Open(t, cfg), d, true)
}

// TestDamagedPins: what can be read of a damaged file stays pinned, and the file is set aside.
func TestDamagedPins(t *testing.T) {
	c, cfg := closable(t)
	b, d := content(mib)
	_, other := content(5)
	if err := errors.Join(c.Put(d, b), c.Pin(d, other), c.Close()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cfg.Dir, "pins")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Replace(text, []byte(other.Encoded()), []byte(strings.Repeat("?", 64)), 1)
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	wantPinned(t, cachetest.Open(t, cfg), d, true)
	if aside, err := filepath.Glob(path + ".damaged-*"); err != nil || len(aside) != 1 {
		t.Errorf("set aside: %v, error %v, want one file", aside, err)
	}
	if text, err = os.ReadFile(path); err != nil || string(text) != d.String()+"\n" {
		t.Errorf("the file of pins has %q, error %v, want one digest", text, err)
	}
}

// TestPinsInTrouble: pins that cannot be read for a reason outside of the file are left where they are, and nothing that may
// be pinned is evicted.
func TestPinsInTrouble(t *testing.T) {
	cfg := cachetest.Config(t)
	path := filepath.Join(cfg.Dir, "pins")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := cache.Open(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if !errors.Is(err, syscall.EISDIR) || !strings.Contains(err.Error(), "move "+path+" away") {
		t.Errorf("got %v, want an error that says what to do", err)
	}
	if err := os.Remove(path); err != nil {
		t.Error(err)
	}
	cachetest.Open(t, cfg)
}

// TestPinFails: a pin that cannot be made durable is none.
func TestPinFails(t *testing.T) {
	c, _ := closable(t)
	b, d := content(mib)
	if err := c.Put(d, b); err != nil {
		t.Fatal(err)
	}
	c.SetFault(func(operation string) error {
		if operation == "pins" {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := c.Pin(d); !errors.Is(err, cache.ErrDisk) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ErrDisk and ENOSPC", err)
	}
	if got, _ := c.Content(d); got.Pinned {
		t.Error("content is pinned after an error")
	}
	c.SetFault(func(string) error { return nil })
	if err := c.Pin(oci.Digest{}); err == nil {
		t.Error("the zero digest was pinned")
	}
	if err := errors.Join(c.Pin(d), c.Close()); err != nil {
		t.Error(err)
	}
	if err := c.Pin(d); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// TestPinsFillTheCache: what pins leave no room for is passed through and evicts nothing, and one warning says why.
func TestPinsFillTheCache(t *testing.T) {
	var log bytes.Buffer
	cfg := cachetest.Config(t)
	cfg.Dir, cfg.MaxSize = memoryDir(t), 4*units.MiB
	c, err := cache.Open(cfg, slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	pinned, pinnedDigest := content(3 * mib)
	other, otherDigest := content(mib / 2)
	if err := errors.Join(c.Put(pinnedDigest, pinned), c.Put(otherDigest, other), c.Pin(pinnedDigest)); err != nil {
		t.Fatal(err)
	}
	large, d := content(2 * mib)
	for range 3 {
		r := newOrigin(large).request(d)
		if err := fill(t, c, r).Ready(t.Context()); !errors.Is(err, cache.ErrNoRoom) {
			t.Errorf("got %v, want ErrNoRoom", err)
		}
		passed := c.Pass(r)
		wantRange(t, passed, 0, large)
		_ = passed.Close()
	}
	if _, ok := c.Stat(otherDigest); !ok {
		t.Error("content was evicted for what cannot fit beside the pins")
	}
	cachetest.Settle(c)
	if err := errors.Join(c.Check(t.Context()), c.Close()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "pinned content leaves no room"); n != 1 {
		t.Errorf("%d warnings, want one:\n%s", n, log.String())
	}
}
