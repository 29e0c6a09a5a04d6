package cache_test

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
)

// faultTurns bounds at how many of its turns an operation fails; most have fewer.
const faultTurns = 8

// TestEachOperationFailsOnce lets each file operation of a day fail, one in each run: fills of small and large content, by
// readers of everything and of ranges, wrong bytes, a source that goes away, a restart, hits. No reader notices, nothing
// that was complete is lost, and afterwards all is well.
func TestEachOperationFailsOnce(t *testing.T) {
	for _, op := range cache.Operations {
		t.Run(op, func(t *testing.T) {
			turn := int32(1)
			for reached := true; reached && turn <= faultTurns && !t.Failed(); turn++ {
				synctest.Test(t, func(t *testing.T) { reached = dayWithFault(t, op, turn) })
				if t.Failed() {
					t.Errorf("the operation has failed at turn %d", turn)
				}
			}
			if turn == 2 {
				t.Error("the operation was never asked for")
			}
		})
	}
}

// dayWithFault reports whether the fault has come.
func dayWithFault(t *testing.T, op string, turn int32) bool {
	cfg := cachetest.Config(t)
	cfg.Dir, cfg.Memory.MaxBlob = memoryDir(t), 16*kib
	d := &day{t: t, cfg: cfg, op: op, turn: turn, complete: make(map[int]bool)}
	d.open()
	defer func() { _ = d.cache.Close() }() // the test has looked at everything
	d.live()
	reached := d.count.Load() >= turn
	d.count.Store(turn) // its turn is over, also where it has not come
	cachetest.Settle(d.cache)
	d.nothingLost()
	if err := d.cache.Check(t.Context()); err != nil {
		t.Error(err)
	}
	d.live()
	return reached
}

// day is what happens to a cache in which one operation fails.
type day struct {
	t        *testing.T
	cfg      cache.Config
	cache    *cache.Cache
	op       string
	turn     int32
	count    atomic.Int32
	complete map[int]bool // lengths of the contents that were seen complete
}

func (d *day) open() {
	d.cache = cachetest.Unchecked(d.t, d.cfg)
	d.cache.SetPace(time.Second)
	d.cache.SetFault(func(operation string) error {
		if operation != d.op || d.count.Add(1) != d.turn {
			return nil
		}
		if d.turn%2 == 0 && operation != "write" { // a write without space evicts
			return syscall.ENOSPC
		}
		return syscall.EIO
	})
}

const daySmall, dayLarge = 10 * kib, 3 * mib / 2

func (d *day) live() {
	d.fill(daySmall, nil, 0, 0)
	d.fill(daySmall+1, func(o *origin) { o.wrong = []int64{5} }, 0)
	d.fill(dayLarge, nil, 0, 0, dayLarge/2, dayLarge-1)
	d.fill(dayLarge+1, func(o *origin) { o.chunk = 64 * kib }, dayLarge-100*kib, 0)
	d.fill(dayLarge+2, func(o *origin) { o.noSize, o.noRanges = true, true }, 0)
	b, digest := content(20 * kib)
	if err := d.cache.Put(digest, b); err != nil && !errors.Is(err, cache.ErrDisk) {
		d.t.Errorf("put: %v", err)
	}
	for _, change := range []func(...oci.Digest) error{d.cache.Pin, d.cache.Unpin} {
		if err := change(digest); err != nil && !errors.Is(err, cache.ErrDisk) {
			d.t.Errorf("pin or unpin: %v", err)
		}
	}
	d.breakOff(2 * dayLarge)
	d.restart()
	d.fill(2*dayLarge, nil, 0, dayLarge)
	for _, n := range []int{daySmall, daySmall + 1, dayLarge, dayLarge + 1, dayLarge + 2, 20 * kib, 2 * dayLarge} {
		d.fill(n, nil, 0, int64(n/2))
	}
	_, digest = content(dayLarge)
	d.cache.Remove(digest)
	delete(d.complete, dayLarge)
}

// fill reads content of n bytes from several places on. Every reader gets everything. The source delivers what the script
// says at first, and then what is right, a piece in a moment.
func (d *day) fill(n int, script func(*origin), offsets ...int64) {
	d.t.Helper()
	b, digest := content(n)
	o := newOrigin(b)
	r := o.request(digest)
	if script != nil {
		script(o)
		r.From = repaired(o)
	}
	if n > smallLimit {
		r.From = slowly(r.From)
	}
	wrong := len(o.wrong) > 0
	var readers []*reading
	for _, off := range offsets {
		readers = append(readers, startOrPass(d.cache, fill(d.t, d.cache, r), r, b, off))
	}
	for _, reader := range readers {
		<-reader.done
		if wrong && errors.Is(reader.err, cache.ErrWrongContent) && reader.count() == 0 {
			continue // the fault came first, and what passes through is asked for once
		}
		reader.complete(d.t)
	}
	cachetest.Settle(d.cache)
	if _, ok := d.cache.Stat(digest); ok {
		d.complete[n] = true
	}
	d.nothingLost()
}

// breakOff fills half of a content from a source that goes away then.
func (d *day) breakOff(n int) {
	b, digest := content(n)
	o := newOrigin(b)
	r := o.request(digest)
	r.From = slowly(onlyUpTo(o, int64(n/2)))
	if d.complete[n] {
		return
	}
	reader := start(fill(d.t, d.cache, r), b, 0, -1)
	<-reader.done
	if reader.err == nil || reader.count() < 0 {
		d.t.Errorf("a reader of half a content got %d bytes (-1: wrong ones) and %v", reader.count(), reader.err)
	}
	cachetest.Settle(d.cache)
}

func (d *day) restart() {
	if err := d.cache.Close(); err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOSPC) {
		d.t.Errorf("close: %v", err)
	}
	d.open()
	d.nothingLost()
}

// nothingLost fails the test unless all is complete that ever was.
func (d *day) nothingLost() {
	d.t.Helper()
	for n := range d.complete {
		_, digest := content(n)
		if size, ok := d.cache.Stat(digest); !ok || size != int64(n) {
			d.t.Errorf("%d bytes were complete, and are there: %v, with %d", n, ok, size)
		}
	}
}

// slowly delivers a piece now and then, so that journals are written meanwhile.
func slowly(from cache.FillFunc) cache.FillFunc {
	return func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
		s, err := from(ctx, want)
		if err == nil {
			s.Body = slowBody{s.Body}
		}
		return s, err
	}
}
