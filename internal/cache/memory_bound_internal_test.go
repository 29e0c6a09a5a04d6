package cache

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"

	"mirror/internal/oci"
	"mirror/internal/units"
)

// TestMemoryBoundUnderLoad offers two hundred times what the tier may hold, from many goroutines at once, and watches what
// is held and queued all the while: at most the limit and one blob on its way, and as much again in the queue. Without the
// wait for ristretto's queue it fails.
func TestMemoryBoundUnderLoad(t *testing.T) {
	const size, goroutines, offers = 64 << 10, 8, 3200 / 8
	m, err := newMemory(MemoryConfig{MaxSize: units.MiB, MaxBlob: units.MiB}, hitBatch, func(int64) {})
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	var held, queued atomic.Int64 // the most that was seen
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range offers {
				b := make([]byte, size)
				binary.LittleEndian.PutUint64(b, uint64(g*offers+i))
				m.offer(oci.DigestOf(oci.SHA256, b), b, new(entry))
				raise(&held, m.bytes.Load())
				raise(&queued, m.offered.Load())
			}
		})
	}
	wg.Wait()
	const blob = size + itemOverhead
	if most := int64(units.MiB + blob); held.Load() == 0 || held.Load() > most {
		t.Errorf("%d bytes were held, want some and at most %d", held.Load(), most)
	}
	// A goroutine counts its offer before it learns that there is no room for it.
	if most := int64(units.MiB + (1+goroutines)*blob); queued.Load() > most {
		t.Errorf("%d bytes were queued, want at most %d", queued.Load(), most)
	}
}

// raise makes most at least n.
func raise(most *atomic.Int64, n int64) {
	for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
	}
}
