package cache_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
	"mirror/internal/units"
)

// limited opens a cache of the given size without a memory tier.
func limited(t *testing.T, size units.Bytes) (*cache.Cache, cache.Config) {
	cfg := cachetest.Config(t)
	cfg.Dir = memoryDir(t)
	cfg.MaxSize, cfg.Memory.MaxSize = size, 0
	return cachetest.Open(t, cfg), cfg
}

// TestLimitHolds: whatever is filled, put and removed, the cache never holds more than it may.
func TestLimitHolds(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	c, _ := limited(t, 1*units.MiB)
	var known []oci.Digest
	for range 150 {
		b, d := content(random.IntN(300 * kib))
		known = append(known, d)
		switch random.IntN(4) {
		case 0:
			if err := c.Put(d, b); err != nil {
				t.Errorf("put %d bytes: %v", len(b), err)
			}
		case 1:
			c.Remove(known[random.IntN(len(known))])
		default:
			wantWhole(t, c, newOrigin(b).request(d), b)
		}
		cachetest.Settle(c)
		if err := c.Check(t.Context()); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestLimitHoldsForManyFills: fills at once reserve before they write. Those for which there is no room say so.
func TestLimitHoldsForManyFills(t *testing.T) {
	for _, noSize := range []bool{false, true} {
		c, _ := limited(t, 6*units.MiB)
		var wg sync.WaitGroup
		for i := range 12 {
			b, d := content(mib + i)
			o := newOrigin(b)
			o.noSize = noSize
			wg.Go(func() {
				blob, _, err := c.Fill(o.request(d))
				if err != nil {
					t.Error(err)
					return
				}
				defer blob.Close()
				if _, err := read(t.Context(), blob, 0, -1); err != nil && !errors.Is(err, cache.ErrNoRoom) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		cachetest.Settle(c)
		if err := c.Check(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestTooLarge: content larger than the cache is refused before the first byte, and can be passed through.
func TestTooLarge(t *testing.T) {
	c, _ := limited(t, 2*units.MiB)
	small, kept := content(100)
	if err := c.Put(kept, small); err != nil {
		t.Fatal(err)
	}
	b, d := content(3 * mib)
	for _, size := range []int64{-1, 3 * mib} {
		o := newOrigin(b)
		r := o.request(d)
		r.Size = size
		if err := fill(t, c, r).Ready(t.Context()); !errors.Is(err, cache.ErrNoRoom) {
			t.Errorf("size %d: got %v, want ErrNoRoom", size, err)
		}
		blob := c.Pass(r)
		wantRange(t, blob, 0, b)
		_ = blob.Close()
	}
	if _, ok := c.Stat(kept); !ok {
		t.Error("content was evicted for what can never fit")
	}
	if err := c.Put(d, b); !errors.Is(err, cache.ErrNoRoom) {
		t.Errorf("put: got %v, want ErrNoRoom", err)
	}
}

// TestColdestIsEvicted: what was used only once goes first, then what was used longest ago, and readers read on.
func TestColdestIsEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := limited(t, 4*units.MiB)
		var digests []oci.Digest
		for i := range 3 {
			b, d := content(mib + i)
			if err := c.Put(d, b); err != nil {
				t.Fatal(err)
			}
			digests = append(digests, d)
			time.Sleep(2 * time.Minute)
		}
		time.Sleep(time.Hour) // what is new has more room than its share for a while
		used, err := c.Open(digests[0])
		if err != nil {
			t.Fatal(err)
		}
		defer used.Close()
		time.Sleep(2 * time.Minute)
		_ = fill(t, c, cache.Request{Digest: digests[1]})
		b, d := content(2*mib - 100)
		c.Stat(digests[2]) // does not count as a use
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
		if _, ok := c.Stat(digests[2]); ok {
			t.Error("the content used once is still there")
		}
		if _, ok := c.Stat(digests[1]); !ok {
			t.Error("the content used last is gone")
		}
		// The victims keep their readers.
		old, _ := content(mib)
		wantRange(t, used, 0, old)
	})
}

// TestScan: one pass over ten times what fits leaves what is used daily where it is, and the manifest with it.
func TestScan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := limited(t, 4*units.MiB)
		var daily []oci.Digest
		for i := range 4 {
			b, d := content(i*300*kib + 2*kib) // the first is a manifest
			if err := c.Put(d, b); err != nil {
				t.Fatal(err)
			}
			daily = append(daily, d)
		}
		time.Sleep(24 * time.Hour)
		for _, d := range daily {
			hit(t, c, d)
		}
		for i := range 80 {
			b, d := content(500*kib + i)
			if err := c.Put(d, b); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		for i, d := range daily {
			if _, ok := c.Stat(d); !ok {
				t.Errorf("content %d of the daily set was evicted by the scan", i)
			}
		}
	})
}

// TestLargeImageStays: a new image of a fifth of a full cache, pulled by one node, is still there for the others five minutes
// later, and what is used daily makes room for it.
func TestLargeImageStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const layer = 200 * kib
		c, _ := limited(t, 50*layer)
		c.SetAhead(layer)
		put := func(from, n int) (digests []oci.Digest) {
			for i := range n {
				b, d := content(layer - from - i)
				if err := c.Put(d, b); err != nil {
					t.Fatal(err)
				}
				digests = append(digests, d)
				time.Sleep(20 * time.Second)
			}
			return digests
		}
		daily := put(0, 44)
		time.Sleep(24 * time.Hour)
		for _, d := range daily {
			hit(t, c, d)
		}
		put(100, 5)
		time.Sleep(24 * time.Hour)
		image := put(200, 10)
		time.Sleep(5 * time.Minute)
		if n := held(c, image); n != len(image) {
			t.Errorf("%d of %d layers are still there", n, len(image))
		}
		if n := held(c, daily); n < 35 {
			t.Errorf("%d of %d contents that are used daily are still there, want at least 35", n, len(daily))
		}
	})
}

// TestManifestsOutliveTheirLayers: as long as anything is left of an image, its manifest and its config are.
func TestManifestsOutliveTheirLayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := limited(t, 8*units.MiB)
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		var images []storedImage
		for n := range 30 {
			images = append(images, storeImage(t, c, n))
			for range 3 { // some images are asked for again, at least in part
				time.Sleep(time.Duration(random.IntN(120)) * time.Minute)
				images[random.IntN(len(images))].use(t, c, random)
			}
			for i, image := range images {
				if image.layersLeft(c) > 0 && !image.complete(c) {
					t.Fatalf("seed %d: image %d has layers left, and has lost its manifest or its config", seed, i)
				}
			}
		}
		left := 0
		for _, image := range images {
			left += image.layersLeft(c)
		}
		if all := 3 * len(images); left == 0 || left > all/2 { // all are three times what fits
			t.Errorf("seed %d: %d of %d layers are left, want some and at most half", seed, left, all)
		}
	})
}

// storedImage is what a mirror holds of an image: manifest and config, and layers.
type storedImage struct{ top, layers []oci.Digest }

func storeImage(t *testing.T, c *cache.Cache, n int) (image storedImage) {
	t.Helper()
	for i := range 2 {
		b, d := content(2*kib + 10*n + i)
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
		image.top = append(image.top, d)
	}
	for i := range 3 {
		b, d := content((200+100*i)*kib + n)
		wantWhole(t, c, newOrigin(b).request(d), b)
		image.layers = append(image.layers, d)
	}
	cachetest.Settle(c)
	return image
}

// use asks for what is there of manifest and config, and then for some of the layers: a node has the others.
func (i storedImage) use(t *testing.T, c *cache.Cache, random *rand.Rand) {
	for _, d := range append(i.top, i.layers[random.IntN(len(i.layers)+1):]...) {
		if _, ok := c.Stat(d); ok {
			hit(t, c, d)
		}
	}
}

func (i storedImage) complete(c *cache.Cache) bool { return held(c, i.top) == len(i.top) }

func (i storedImage) layersLeft(c *cache.Cache) int { return held(c, i.layers) }

func held(c *cache.Cache, digests []oci.Digest) (n int) {
	for _, d := range digests {
		if _, ok := c.Stat(d); ok {
			n++
		}
	}
	return n
}

// TestEvictionAhead: room is made before it is needed, as much as was asked for and not much more, so that a fill finds it.
func TestEvictionAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := limited(t, 16*units.MiB)
		const ahead = 2 * mib
		c.SetAhead(ahead)
		for i := range 40 {
			b, d := content(400*kib + i)
			if free := c.Free(); free < int64(len(b)) {
				t.Fatalf("only %d bytes are free for %d", free, len(b))
			}
			if err := c.Put(d, b); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if free := c.Free(); free < ahead {
				t.Fatalf("%d bytes are free, want at least %d", free, ahead)
			}
		}
		if free := c.Free(); free > 2*ahead+mib/2 {
			t.Errorf("%d bytes are free, want hardly more than %d", free, 2*ahead)
		}
	})
}

// TestEvictionAheadOfPins: when nothing may be evicted, the eviction in the background waits, and goes on when something may.
func TestEvictionAheadOfPins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := limited(t, 4*units.MiB)
		c.SetAhead(mib)
		b, d := content(7 * mib / 2)
		if err := errors.Join(c.Pin(d), c.Put(d, b)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		wantPinned(t, c, d, true)
		if err := c.Unpin(d); err != nil {
			t.Fatal(err)
		}
		small, smallDigest := content(100)
		if err := c.Put(smallDigest, small); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if free := c.Free(); free < 2*mib {
			t.Errorf("%d bytes are free, want %d", free, 2*mib)
		}
	})
}

// TestPartsGoFirst: what failed fills have left some time ago is dropped before anything complete, and what they have just
// left after it, because a client may be about to continue.
func TestPartsGoFirst(t *testing.T) {
	f := func(rested time.Duration, contentStays bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) { partOrContent(t, rested, contentStays) })
	}
	f(11*time.Minute, true)
	f(time.Minute, false)
}

// partOrContent takes room that either a part that has rested so long or content must give.
func partOrContent(t *testing.T, rested time.Duration, contentStays bool) {
	t.Helper()
	c, _ := limited(t, 4*units.MiB)
	kept, keptDigest := content(mib)
	if err := c.Put(keptDigest, kept); err != nil {
		t.Fatal(err)
	}
	b, d := content(2*mib + 1)
	o := newOrigin(b)
	o.cuts = []int64{2 * mib}
	open := o.close(mib, 2*mib)
	reader := start(fill(t, c, o.request(d)), b, 0, -1)
	synctest.Wait()
	o.set(func(o *origin) { o.down = errDown })
	open()
	reader.short(t, errDown)
	time.Sleep(rested)
	other, otherDigest := content(2*mib - 1)
	wantWhole(t, c, newOrigin(other).request(otherDigest), other)
	if _, ok := c.Stat(keptDigest); ok != contentStays {
		t.Errorf("part of %v: complete content stays: got %v, want %v", rested, ok, contentStays)
	}
	o.set(func(o *origin) { o.down, o.wishes = nil, nil })
	wantWhole(t, c, o.request(d), b)
	var continued bool
	o.set(func(o *origin) { continued = o.wishes[0].Start > 0 })
	if continued == contentStays {
		t.Errorf("part of %v: continued: got %v, want %v", rested, continued, !contentStays)
	}
}

// TestLimitIsLowered: after a start with a lower limit, it holds.
func TestLimitIsLowered(t *testing.T) {
	cfg := cachetest.Config(t)
	c := cachetest.Unchecked(t, cfg)
	for i := range 8 {
		b, d := content(500*kib + i)
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.MaxSize = 2 * units.MiB
	if err := cachetest.Open(t, cfg).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestTooLargeBesideFills: content for which there is no room beside what is being filled is refused before anything is
// evicted for it.
func TestTooLargeBesideFills(t *testing.T) {
	c, _ := limited(t, 8*units.MiB)
	for n := range 3 {
		b, d := content(mib + n)
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
	}
	long, d := content(4 * mib)
	o := newOrigin(long)
	open := o.close(3*mib, 4*mib)
	defer open()
	running := fill(t, c, o.request(d))
	if err := running.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, d = content(1)
	if err := fill(t, c, cache.Request{Digest: d, Size: 5 * mib}).Ready(t.Context()); !errors.Is(err, cache.ErrNoRoom) {
		t.Errorf("got %v, want no room", err)
	}
	held := 0
	c.Contents(func(cache.Content) { held++ })
	if held != 3 {
		t.Errorf("%d contents are left of 3", held)
	}
}
