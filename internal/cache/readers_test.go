package cache_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
)

// TestManyReaders: fifty readers at once cost the source one reading, and get bytes before the source has delivered all.
func TestManyReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := descriptors(t)
		c := cachetest.Unchecked(t, cachetest.Config(t))
		const n = 3 * mib
		b, d := content(n)
		o := newOrigin(b)
		open := o.close(2*mib, n)
		var readers []*reading
		for range 50 {
			readers = append(readers, start(fill(t, c, o.request(d)), b, 0, -1))
		}
		synctest.Wait()
		for i, r := range readers {
			if got := r.count(); got != 2*mib {
				t.Fatalf("reader %d has %d bytes while the source has delivered %d", i, got, 2*mib)
			}
		}
		open()
		for _, r := range readers {
			r.complete(t)
		}
		cachetest.Settle(c)
		o.wantOnce(t, 0)
		if o.wishCount() != 1 {
			t.Errorf("%d requests, want 1", o.wishCount())
		}
		if err := c.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if after := descriptors(t); after > before {
			t.Errorf("%d descriptors are open after the fill, %d were before it", after, before)
		}
	})
}

// TestReadersComeAndGo: a late one, a slow one, one that leaves in the middle, the first one leaving. Nobody else notices.
func TestReadersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		const n = 3 * mib
		b, d := content(n)
		o := newOrigin(b)
		openMiddle, openEnd := o.close(mib+mib/2, 2*mib), o.close(2*mib, n)

		first := fill(t, c, o.request(d))
		leaving := &writer{fail: 100}
		slow := &writer{block: make(chan struct{})}
		steady := start(fill(t, c, o.request(d)), b, 0, -1)
		results := make(chan error, 2)
		for _, w := range []*writer{leaving, slow} {
			go func(reader *cache.Blob) {
				_, err := reader.WriteRange(w, 0, -1)
				results <- err
			}(fill(t, c, o.request(d)))
		}
		synctest.Wait()
		if err := <-results; !errors.Is(err, errGone) {
			t.Errorf("the leaving reader got %v, want its own error", err)
		}
		if err := first.Close(); err != nil {
			t.Error(err)
		}
		openMiddle()
		synctest.Wait()
		late := start(fill(t, c, o.request(d)), b, 0, -1)
		openEnd()
		steady.complete(t)
		late.complete(t)
		close(slow.block)
		if err := <-results; err != nil || !bytes.Equal(slow.got.Bytes(), b) {
			t.Errorf("the slow reader got %d bytes and %v", slow.got.Len(), err)
		}
		cachetest.Settle(c)
		o.wantOnce(t, 0)
	})
}

var errGone = errors.New("client is gone")

// writer is a client: it fails after some bytes, or takes nothing until block is closed.
type writer struct {
	got   bytes.Buffer
	fail  int
	block chan struct{}
}

func (w *writer) Write(b []byte) (int, error) {
	if w.block != nil {
		<-w.block
	}
	if w.fail > 0 {
		return w.fail, errGone
	}
	return w.got.Write(b)
}

// TestLastReaderLeaves: the fill goes on without readers, and stops when it is large, less than half done, and nobody has
// come for a while. What it has is kept.
func TestLastReaderLeaves(t *testing.T) {
	f := func(name string, n, have int, wantStored bool) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := cachetest.Open(t, cachetest.Config(t))
				c.SetAbandonSize(4 * mib)
				b, d := content(n)
				o := newOrigin(b)
				open := o.close(have, n)
				blob := fill(t, c, o.request(d))
				if err := blob.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				_ = blob.Close()
				time.Sleep(40 * time.Second) // longer than an abandoned fill is given, and too short to give up a stalled one
				open()
				cachetest.Settle(c)
				if _, stored := c.Stat(d); stored != wantStored {
					t.Errorf("stored: %v, want %v", stored, wantStored)
				}
				wantWhole(t, c, o.request(d), b)
				cachetest.Settle(c)
				o.wantOnce(t, 0)
			})
		})
	}
	f("small", 4*mib, mib, true)
	f("more than half done", 5*mib, 3*mib, true)
	f("less than half done", 5*mib, 2*mib, false)
}

// TestReaderReturnsToAbandonedFill: somebody who comes back while an abandoned fill is ending gets a new one.
func TestReaderReturnsToAbandonedFill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		c.SetAbandonSize(4 * mib)
		b, d := content(5 * mib)
		o := newOrigin(b)
		open := o.close(2*mib, 5*mib)
		r := o.request(d)
		ending := make(chan struct{})
		r.From = slowToEnd(o, ending)
		blob := fill(t, c, r)
		if err := blob.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_ = blob.Close()
		time.Sleep(31 * time.Second)
		returned := make(chan *reading)
		go func() {
			blob, _, err := c.Fill(o.request(d))
			if err != nil {
				t.Error(err)
			}
			returned <- start(blob, b, 0, -1)
		}()
		synctest.Wait()
		open()
		close(ending)
		(<-returned).complete(t)
	})
}

// TestEvictedBeforeRead: content that is stored and removed before a reader of its fill has read the first byte still
// arrives, and its descriptor is closed in the end.
func TestEvictedBeforeRead(t *testing.T) {
	for _, n := range []int{1000, 2 * mib} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			before := descriptors(t)
			c := cachetest.Unchecked(t, cachetest.Config(t))
			b, d := content(n)
			blob := fill(t, c, newOrigin(b).request(d))
			other := fill(t, c, newOrigin(b).request(d))
			cachetest.Settle(c)
			if !c.Remove(d) {
				t.Fatal("the content was not stored")
			}
			wantRange(t, blob, 0, b)
			wantRange(t, other, 10, b[10:900])
			_, _ = blob.Close(), other.Close()
			if err := c.Check(t.Context()); err != nil {
				t.Error(err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if after := descriptors(t); after > before {
				t.Errorf("%d descriptors are open, %d were before", after, before)
			}
		})
	}
}

// TestRemovalDoesNotDisturbReaders: a reader in the middle of stored content reads on after its removal.
func TestRemovalDoesNotDisturbReaders(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	b, d := content(3 * mib)
	if err := c.Put(d, b); err != nil {
		t.Fatal(err)
	}
	blob, err := c.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	wantRange(t, blob, 0, b[:mib])
	if !c.Remove(d) || c.Remove(d) {
		t.Error("removal does not tell whether the content was there")
	}
	wantRange(t, blob, mib, b[mib:])
	if _, err := c.Open(d); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("open after removal: %v", err)
	}
}
