package cache_test

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
)

// TestContents: inspection tells size, times and pins of what is stored, also after a restart, and counts as no use.
func TestContents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := cachetest.Config(t)
		cfg.Dir = memoryDir(t)
		c := cachetest.Unchecked(t, cfg)
		stored := time.Now().Truncate(time.Second)
		want := make(map[oci.Digest]cache.Content)
		for i := range 10 {
			b, d := content(1000 + i)
			if err := c.Put(d, b); err != nil {
				t.Fatal(err)
			}
			want[d] = cache.Content{Digest: d, Size: int64(1000 + i), Stored: stored, Used: stored}
		}
		_, used := content(1003)
		_, pinned := content(1004)
		time.Sleep(time.Hour)
		hit(t, c, used)
		if err := c.Pin(pinned); err != nil {
			t.Fatal(err)
		}
		want[used] = cache.Content{Digest: used, Size: 1003, Stored: stored, Used: stored.Add(time.Hour)}
		want[pinned] = cache.Content{Digest: pinned, Size: 1004, Stored: stored, Used: stored, Pinned: true}
		wantContents(t, c, want)

		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		wantContents(t, cachetest.Unchecked(t, cfg), want)
	})
}

func wantContents(t *testing.T, c *cache.Cache, want map[oci.Digest]cache.Content) {
	t.Helper()
	got := make(map[oci.Digest]cache.Content)
	c.Contents(func(one cache.Content) {
		if _, again := got[one.Digest]; again {
			t.Errorf("%v is visited twice", one.Digest)
		}
		got[one.Digest] = one
		if alone, ok := c.Content(one.Digest); !ok || alone != one {
			t.Errorf("alone: %+v, in the walk: %+v", alone, one)
		}
	})
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, ok := c.Content(oci.DigestOf(oci.SHA256, []byte("never stored"))); ok {
		t.Error("content that was never stored is known")
	}
}
