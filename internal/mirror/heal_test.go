package mirror_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/mirror"
	"mirror/internal/units"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// One byte of a stored layer changes on the disk. The scrub of the next run takes the layer out of service, and the next
// pull of it is right.
func TestPullAfterScrubFoundDamage(t *testing.T) {
	origin := upstreamtest.New(t)
	layer := origin.AddImage("app", "1", 3<<20).Layers[0]
	disk := cachetest.Config(t)
	storeDamaged(t, disk, layer)

	disk.Scrub.Rate = units.Rate(units.GiB)
	h := openAll(t, origin, disk, upstream.Config{Registry: "registry.test", Default: true, Endpoints: []string{origin.URL}})
	for ctx := within(t, 30*time.Second); h.counter("mirror_cache_quarantined_total") == 0; {
		if ctx.Err() != nil {
			t.Fatal("the scrub found nothing")
		}
		time.Sleep(time.Millisecond)
	}
	kept, err := filepath.Glob(filepath.Join(disk.Dir, "quarantine", "sha256-"+layer.Digest.Encoded()+".*"))
	if err != nil || len(kept) != 1 {
		t.Errorf("in quarantine: %q, %v, want the layer", kept, err)
	}
	h.blob("app", layer, mirror.Miss)
	h.settle()
	h.blob("app", layer, mirror.Hit)
	if got := h.counter("mirror_cache_quarantined_total"); got != 1 {
		t.Errorf("counted %.0f damaged blobs, want 1", got)
	}
}

// storeDamaged leaves content in a data directory whose last byte is wrong.
func storeDamaged(t *testing.T, disk cache.Config, content upstreamtest.Content) {
	t.Helper()
	c, err := cache.Open(disk, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Put(content.Digest, content.Bytes), c.Close()); err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte(nil), content.Bytes...)
	damaged[len(damaged)-1]++
	encoded := content.Digest.Encoded()
	if err := os.WriteFile(filepath.Join(disk.Dir, "blobs", "sha256", encoded[:2], encoded), damaged, 0o600); err != nil {
		t.Fatal(err)
	}
}
