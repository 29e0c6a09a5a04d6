package cache_test

import (
	"sync/atomic"
	"testing"

	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
)

// TestRemoveAll: many contents are removed together, with few transactions of the index file.
func TestRemoveAll(t *testing.T) {
	const blobs, size, kept = 600, 1000, 10
	c := cachetest.Open(t, cachetest.Config(t))
	var digests []oci.Digest
	var bytes int64
	for n := range blobs {
		b, d := content(size + n)
		if err := c.Put(d, b); err != nil {
			t.Fatal(err)
		}
		if n >= kept {
			digests = append(digests, d)
			bytes += int64(len(b))
		}
	}
	var transactions atomic.Int32
	c.SetFault(func(operation string) error {
		if operation == "index" {
			transactions.Add(1)
		}
		return nil
	})
	_, absent := content(size + blobs)
	removed, freed := c.RemoveAll(append(digests, absent))
	if len(removed) != blobs-kept || freed != bytes {
		t.Errorf("removed %d blobs of %d bytes, want %d of %d", len(removed), freed, blobs-kept, bytes)
	}
	if got := transactions.Load(); got > 3*4 { // each asks three times
		t.Errorf("that took %d questions of transactions, want 12 at most", got)
	}
	if again, _ := c.RemoveAll(digests); len(again) > 0 {
		t.Errorf("%d blobs were removed twice", len(again))
	}
}

// TestRemoveAfterClose: a request to remove that comes too late does not touch a directory that may belong to another
// process by then.
func TestRemoveAfterClose(t *testing.T) {
	cfg := cachetest.Config(t)
	b, d := content(1000)
	c := cachetest.Unchecked(t, cfg)
	if err := c.Put(d, b); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if c.Remove(d) {
		t.Error("removed")
	}
	wantWhole(t, cachetest.Open(t, cfg), newOrigin(nil).request(d), b)
}
