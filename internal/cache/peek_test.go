package cache_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
)

func TestPeekIsNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := cachetest.Config(t)
		cfg.Dir = memoryDir(t)
		c := cachetest.Unchecked(t, cfg)
		b, d := content(1000)
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
		before, _ := c.Content(d)
		time.Sleep(time.Hour)
		if got, err := c.Peek(d, 1000); err != nil || !bytes.Equal(got, b) {
			t.Errorf("got %d bytes, %v, want all", len(got), err)
		}
		if after, _ := c.Content(d); after != before {
			t.Errorf("content is %+v, want %+v as before", after, before)
		}
	})
}

func TestPeekRefuses(t *testing.T) {
	cfg := cachetest.Config(t)
	c := cachetest.Unchecked(t, cfg)
	b, d := content(1000)
	if err := c.Put(d, b); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Peek(d, 999); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("longer than the limit: %v", err)
	}
	_, never := content(1001)
	if _, err := c.Peek(never, 2000); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("never stored: %v", err)
	}
	flip(t, pathOf(cfg.Dir, d), 500)
	if _, err := c.Peek(d, 1000); !errors.Is(err, cache.ErrWrongContent) {
		t.Errorf("damaged: %v", err)
	}
}

func TestFilling(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	if got := c.Filling(); len(got) != 0 {
		t.Errorf("an idle cache fills %v", got)
	}
	b, d := content(3 * mib)
	o := newOrigin(b)
	open := o.close(2*mib, 3*mib)
	blob := fill(t, c, o.request(d))
	defer blob.Close()
	if _, err := read(t.Context(), blob, 0, 2*mib); err != nil {
		t.Fatal(err)
	}
	got := c.Filling()
	if len(got) != 1 || got[0].Digest != d || got[0].Size != 3*mib || got[0].Received != 2*mib || got[0].Readers != 1 {
		t.Errorf("got %+v, want 2 of 3 MiB and one reader", got)
	}
	open()
	if err := blob.Close(); err != nil {
		t.Error(err)
	}
	cachetest.Settle(c)
	if got := c.Filling(); len(got) != 0 {
		t.Errorf("when it is over, %v", got)
	}
}
