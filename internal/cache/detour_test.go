package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/units"
)

// failWrites lets writes of content fail from the n-th on, until the function that it returns is called.
func failWrites(c *cache.Cache, n int32, err error) (mend func()) {
	var count atomic.Int32
	var mended atomic.Bool
	c.SetFault(func(operation string) error {
		if operation == "write" && !mended.Load() && count.Add(1) >= n {
			return err
		}
		return nil
	})
	return func() { mended.Store(true) }
}

// startOrPass reads a fill from off on, and passes the content through when the fill fails before a status could be sent.
func startOrPass(c *cache.Cache, blob *cache.Blob, r cache.Request, b []byte, off int64) *reading {
	reader := &reading{expect: b[off:], done: make(chan struct{})}
	go func() {
		defer close(reader.done)
		if reader.err = blob.Ready(context.Background()); errors.Is(reader.err, cache.ErrDisk) || errors.Is(reader.err, cache.ErrNoRoom) {
			_ = blob.Close() // nothing was read
			blob = c.Pass(r)
			reader.err = blob.Ready(context.Background())
		}
		defer blob.Close()
		if reader.err == nil {
			_, reader.err = blob.WriteRange(reader, off, -1)
		}
	}()
	return reader
}

// TestDiskFailsHalfWay: when content cannot be written any more, whoever reads it gets the rest all the same, nothing is
// kept, and the next request finds normal work.
func TestDiskFailsHalfWay(t *testing.T) {
	b, d := content(6 * mib)
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
		for name, change := range map[string]func(*origin){
			"ranges": func(*origin) {}, "no ranges": func(o *origin) { o.noRanges = true },
			"no size": func(o *origin) { o.noSize = true }, "neither": func(o *origin) { o.noSize, o.noRanges = true, true },
			"broken off": func(o *origin) { o.cuts = []int64{5 * mib, 5*mib + 100} },
		} {
			t.Run(cause.Error()+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := cachetest.Open(t, cachetest.Config(t))
					mend := failWrites(c, 9, cause)
					o := newOrigin(b)
					change(o)
					r := o.request(d)
					var readers []*reading
					for _, off := range []int64{0, 0, 0, 1, 3 * mib} {
						readers = append(readers, startOrPass(c, fill(t, c, r), r, b, off))
					}
					for _, reader := range readers {
						reader.complete(t)
					}
					cachetest.Settle(c)
					if _, err := c.Open(d); !errors.Is(err, cache.ErrNotFound) {
						t.Errorf("half of the content is kept: %v", err)
					}
					mend()
					wantWhole(t, c, r, b)
				})
			})
		}
	}
}

// TestDetourVerifies: a reader that goes on without the disk does not get the last block of wrong content, wherever the
// wrong byte is.
func TestDetourVerifies(t *testing.T) {
	const n = 6 * mib
	b, d := content(n)
	for _, at := range []int64{0, mib, 2*mib + 300*kib, 4 * mib, n - 1} {
		synctest.Test(t, func(t *testing.T) {
			c := cachetest.Open(t, cachetest.Config(t))
			failWrites(c, 9, syscall.ENOSPC)
			o := newOrigin(b)
			r := o.request(d)
			r.Fetches = 1
			var wishes atomic.Int32
			r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
				// The byte is wrong for the fill or for what comes after it: the second source must not make up for the first.
				first := wishes.Add(1) == 1
				o.set(func(o *origin) { o.wrong = nil })
				if first == (at < 2*mib) {
					o.set(func(o *origin) { o.wrong = []int64{at} })
				}
				return o.from(ctx, want)
			}
			open := o.close(3*mib/2, 3*mib/2+1)
			reader := start(fill(t, c, r), b, 0, -1)
			synctest.Wait()
			if reader.count() == 0 {
				t.Error("the reader has not begun")
			}
			open()
			<-reader.done
			if reader.n >= n || !errors.Is(reader.err, cache.ErrWrongContent) {
				t.Errorf("wrong byte %d: reader got %d bytes and %v", at, reader.n, reader.err)
			}
		})
	}
}

// TestRejoin: a reader that has joined the fill of a source that breaks off for good goes on with its own, in the middle,
// and nothing is downloaded twice.
func TestRejoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d := content(6 * mib)
		c := cachetest.Open(t, cachetest.Config(t))
		mortal, own := newOrigin(b), newOrigin(b)
		mine := func(err error) bool { return errors.Is(err, errDown) }
		r := mortal.request(d)
		r.From = onlyUpTo(mortal, 3*mib)
		starter := start(fill(t, c, r), b, 0, -1)
		var joiners []*reading
		for _, off := range []int64{0, 0, mib, 4 * mib} {
			blob := fill(t, c, r)
			blob.Fallback(own.request(d), mine)
			joiners = append(joiners, start(blob, b, off, -1))
		}
		starter.short(t, errDown)
		for _, reader := range joiners {
			reader.complete(t)
		}
		if again := mortal.deliveredBytes() + own.deliveredBytes() - int64(len(b)); again > inFlight {
			t.Errorf("%d bytes were delivered twice", again)
		}
	})
}

// TestRejoinOtherFile: what was fetched anew is no continuation of what a reader has begun with.
func TestRejoinOtherFile(t *testing.T) {
	for _, whole := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b, d := content(6 * mib)
			cfg := cachetest.Config(t)
			cfg.MaxSize = 8 * units.MiB
			c := cachetest.Open(t, cfg)
			mortal, own := newOrigin(b), newOrigin(b)
			r := mortal.request(d)
			r.From = onlyUpTo(mortal, 3*mib)
			blob := fill(t, c, r)
			blob.Fallback(own.request(d), func(error) bool {
				cachetest.Settle(c)
				other, otherDigest := content(7 * mib)
				if err := c.Put(otherDigest, other); err != nil { // which drops what the failed fill has left
					t.Error(err)
				}
				if whole {
					wantWhole(t, c, own.request(d), b)
				}
				return true
			})
			open := mortal.close(3*mib-1, 3*mib)
			reader := start(blob, b, 0, -1)
			synctest.Wait()
			if reader.count() == 0 {
				t.Error("the reader has not begun")
			}
			open()
			<-reader.done
			if reader.err == nil || reader.n >= len(b) || reader.count() < 0 {
				t.Errorf("reader got %d of %d bytes and %v", reader.count(), len(b), reader.err)
			}
		})
	}
}

// TestRejoinSuspect: what a reader has begun with may be wrong when its digest has become a suspect meanwhile. The next
// fill fetches everything anew then, in another file, and the reader is cut short: it must not get the end of what is right
// after the beginning of what is wrong.
func TestRejoinSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d := content(6 * mib)
		c := cachetest.Open(t, cachetest.Config(t))
		bad, own := newOrigin(b), newOrigin(b)
		bad.wrong = []int64{mib}
		r := bad.request(d)
		r.From = onlyUpTo(bad, 3*mib)
		blob := fill(t, c, r)
		blob.Fallback(own.request(d), func(error) bool {
			passing := c.Pass(bad.request(d))
			defer passing.Close()
			if _, err := passing.WriteRange(io.Discard, 0, -1); !errors.Is(err, cache.ErrWrongContent) {
				t.Errorf("wrong content passed through: %v", err)
			}
			return true
		})
		var got bytes.Buffer
		_, err := blob.WriteRange(&got, 0, -1)
		if errors.Join(err, blob.Close()) == nil || got.Len() == len(b) {
			t.Errorf("reader got %d of %d bytes and %v, the byte that was wrong included", got.Len(), len(b), err)
		}
		cachetest.Settle(c)
		wantWhole(t, c, own.request(d), b)
	})
}
