package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/units"
)

// TestFaults lets each kind of file operation fail once, at its first, second, … time, during puts, fills, restarts of
// fills, evictions and hits. No wrong byte goes out, no reader hangs, the invariants hold, and then everything works.
func TestFaults(t *testing.T) {
	for _, op := range cache.Operations {
		for turn := range int32(3) {
			t.Run(fmt.Sprintf("%s %d", op, turn+1), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { failOnce(t, op, turn) })
			})
		}
	}
}

func failOnce(t *testing.T, op string, turn int32) {
	cfg := cachetest.Config(t)
	cfg.Dir = memoryDir(t)
	cfg.MaxSize, cfg.Memory.MaxBlob = 4*units.MiB, 64*units.KiB
	c := cachetest.Open(t, cfg)
	c.SetPace(time.Second)
	var count atomic.Int32
	c.SetFault(func(operation string) error {
		if operation == op && count.Add(1) == turn+1 {
			return syscall.EIO
		}
		return nil
	})
	f := faulty{t, c, false}
	f.everything()
	count.Store(turn + 1) // the turn is over, also where it has not come
	cachetest.Settle(c)
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("after the fault: %v", err)
	}
	f.strict = true
	f.everything()
}

// faulty uses a cache in every way; unless strict, anything may fail, but nothing may be wrong.
type faulty struct {
	t      *testing.T
	cache  *cache.Cache
	strict bool
}

func (f faulty) everything() {
	small, large := 10*kib, 3*mib/2
	f.fill(large, false, false)
	f.fill(small, true, false)
	f.put(small + 1)
	f.put(mib)
	f.pin(small)
	for range 2 {
		f.hit(small)
		f.hit(large)
	}
	f.fill(large+1, false, true) // evicts, and writes journals
	f.fill(large+2, false, false)
	f.put(mib + 1)
	for _, n := range []int{small, large, small + 1, mib, mib + 1, large + 1, large + 2} {
		_, d := content(n)
		f.cache.Remove(d)
	}
}

func (f faulty) failed(what string, err error) {
	f.t.Helper()
	if err == nil || !f.strict && (errors.Is(err, syscall.EIO) || errors.Is(err, cache.ErrNoRoom)) {
		return // an eviction that fails makes no room
	}
	f.t.Errorf("%s (strict: %v): %v", what, f.strict, err)
}

// pin pins content and lets it go again.
func (f faulty) pin(n int) {
	_, d := content(n)
	f.failed("pin", f.cache.Pin(d))
	f.failed("unpin", f.cache.Unpin(d))
}

func (f faulty) put(n int) {
	b, d := content(n)
	f.failed("put", f.cache.Put(d, b))
}

// fill reads by several readers at once; if wrongOnce, the source delivers wrong bytes first; if slow, a piece in a second.
func (f faulty) fill(n int, wrongOnce, slow bool) {
	b, d := content(n)
	o := newOrigin(b)
	r := o.request(d)
	r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
		o.set(func(o *origin) {
			o.wrong = nil
			if wrongOnce && len(o.wishes) == 0 {
				o.wrong = []int64{int64(n - 1)}
			}
		})
		s, err := o.from(ctx, want)
		if slow && err == nil {
			s.Body = slowBody{s.Body}
		}
		return s, err
	}
	var readers []*reading
	for _, off := range []int64{0, 0, int64(n / 2), int64(n - 1)} {
		blob, _, err := f.cache.Fill(r)
		f.failed("fill", err)
		if err == nil {
			readers = append(readers, start(blob, b, off, -1))
		}
	}
	for _, reader := range readers {
		<-reader.done
		f.failed("read", reader.err)
		if got := reader.count(); got < 0 || reader.err == nil && got != len(reader.expect) {
			f.t.Errorf("reader got %d of %d bytes (-1: wrong ones) and %v", got, len(reader.expect), reader.err)
		}
	}
	cachetest.Settle(f.cache)
}

func (f faulty) hit(n int) {
	b, d := content(n)
	blob, err := f.cache.Open(d)
	if errors.Is(err, cache.ErrNotFound) {
		return // evicted, or dropped after a fault
	}
	f.failed("open", err)
	if err != nil {
		return
	}
	defer blob.Close()
	got, err := read(f.t.Context(), blob, 0, -1)
	f.failed("read a hit", err)
	if err == nil && !bytes.Equal(got, b) {
		f.t.Error("a hit delivers other bytes")
	}
}

// TestFullDisk: while nothing can be written, content is refused as disk trouble and passes through; afterwards it is
// stored.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		var full atomic.Bool
		c.SetFault(func(operation string) error {
			if full.Load() && operation == "write" {
				return syscall.ENOSPC
			}
			return nil
		})
		for _, n := range []int{1000, 2 * mib} {
			b, d := content(n)
			r := newOrigin(b).request(d)
			full.Store(true)
			startOrPass(c, fill(t, c, r), r, b, 0).complete(t)
			if err := c.Put(d, b); !errors.Is(err, cache.ErrDisk) && !errors.Is(err, cache.ErrNoRoom) {
				t.Errorf("put: got %v, want ErrDisk or ErrNoRoom", err)
			}
			passed := c.Pass(r)
			wantRange(t, passed, 0, b)
			_ = passed.Close()
			full.Store(false)
			sleepSeconds(11) // until the disk is tried again
			wantWhole(t, c, r, b)
		}
	})
}

// TestDescriptorsRunOut: a hit that cannot be opened for want of descriptors does not cost the content.
func TestDescriptorsRunOut(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	b, d := content(2 * mib)
	if err := c.Put(d, b); err != nil {
		t.Fatal(err)
	}
	var out atomic.Bool
	c.SetFault(func(operation string) error {
		if out.Load() && operation == "open" {
			return syscall.EMFILE
		}
		return nil
	})
	out.Store(true)
	if _, err := c.Open(d); !errors.Is(err, cache.ErrDisk) {
		t.Errorf("got %v, want ErrDisk", err)
	}
	out.Store(false)
	if got := tier(t, c, d, b); got != cache.TierDisk {
		t.Errorf("tier %d, want disk", got)
	}
}
