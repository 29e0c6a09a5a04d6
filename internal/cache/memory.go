package cache

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"

	"mirror/internal/oci"
)

const (
	// offerQueue and offerBytes bound what waits to be taken into memory, which never is more than the tier itself either.
	// Ristretto's own queue holds 32,768 items outside its cost bound, which is gigabytes of blobs (measured: 32 GiB
	// against a cap of 64 MiB), so only one item at a time ever enters it.
	offerQueue = 256
	offerBytes = 32 << 20
	// gateCount spreads the locks that keep gets apart from close.
	gateCount = 64
	// itemOverhead is the cost of an item beside its bytes, so that a million empty blobs are not free.
	itemOverhead = 256
	// countersPerItem is what ristretto's authors recommend for its admission counters.
	countersPerItem = 10
	// hitBatch is how many hits ristretto collects before it counts them, the number that its authors recommend: more is
	// cheaper for a hit, and loses more hits with each garbage collection.
	hitBatch = 64
	// typicalItem is the size that the number of counters is based on: a manifest or a config.
	typicalItem = 16 << 10
)

// memoryBlob is content in memory. Its bytes are never written to, so whoever holds them may go on after eviction.
type memoryBlob struct {
	digest oci.Digest
	data   []byte
	entry  *entry
	held   atomic.Bool // counted in memory.bytes and memory.blobs
}

func (b *memoryBlob) cost() int64 { return int64(len(b.data)) + itemOverhead }

// memory is the memory tier: small blobs that were asked for more than once. Admission is TinyLFU, eviction sampled LFU.
type memory struct {
	maxBlob int64
	cache   *ristretto.Cache[uint64, *memoryBlob]
	offers  chan *memoryBlob
	limit   int64         // of offered
	offered atomic.Int64  // bytes in offers
	stop    chan struct{} // closed by close
	done    chan struct{}

	bytes, blobs atomic.Int64 // what is held
	onEvict      func(bytes int64)
	gates        [gateCount]gate
}

// gate is held for reading by whoever calls into ristretto, and for writing once, by close: ristretto panics when it is
// called while it closes. There are many so that hits of different blobs do not meet here.
type gate struct {
	sync.RWMutex
	closed bool
	_      [64]byte // a cache line, so that neighbours do not slow each other down
}

// enter passes the gate of d and reports whether the tier is open; the caller leaves by RUnlock.
func (m *memory) enter(d oci.Digest) (*gate, bool) {
	g := &m.gates[d.Sum64()%gateCount]
	g.RLock()
	return g, !g.closed
}

// newMemory returns a memory tier that counts its hits in batches, or nil when the configuration switches it off. All
// methods work on nil.
func newMemory(cfg MemoryConfig, batch int64, onEvict func(int64)) (*memory, error) {
	if cfg.MaxSize <= 0 {
		return nil, nil
	}
	m := &memory{
		maxBlob: int64(cfg.MaxBlob), limit: min(offerBytes, int64(cfg.MaxSize)), onEvict: onEvict,
		offers: make(chan *memoryBlob, offerQueue), stop: make(chan struct{}), done: make(chan struct{}),
	}
	var err error
	m.cache, err = ristretto.NewCache(&ristretto.Config[uint64, *memoryBlob]{
		NumCounters:        max(1024, countersPerItem*int64(cfg.MaxSize)/typicalItem),
		MaxCost:            int64(cfg.MaxSize),
		BufferItems:        batch,
		IgnoreInternalCost: true,
		OnEvict:            m.evicted,
		OnExit:             m.left,
	})
	if err != nil {
		return nil, fmt.Errorf("make memory tier: %w", err)
	}
	go m.admit()
	return m, nil
}

// get returns content in memory, or nil. Somebody can make two digests whose keys collide, so the digest is compared.
// Content that has left the disk is not served any more, even where it has not been dropped yet.
func (m *memory) get(d oci.Digest) *memoryBlob {
	if m == nil {
		return nil
	}
	g, open := m.enter(d)
	defer g.RUnlock()
	if !open {
		return nil
	}
	b, ok := m.cache.Get(d.Sum64())
	if !ok || b == nil || b.digest != d || b.entry.gone.Load() {
		return nil
	}
	return b
}

// takes reports whether content of this size may enter the tier.
func (m *memory) takes(size int64) bool { return m != nil && size <= m.maxBlob }

// offer proposes content for the tier, without waiting: when too much is proposed at once, it is passed over and may be
// proposed again by the next hit on disk.
func (m *memory) offer(d oci.Digest, data []byte, e *entry) {
	if !m.takes(int64(len(data))) {
		return
	}
	b := &memoryBlob{digest: d, data: data, entry: e}
	// Counted before it is looked at, so that many at once cannot all pass the same look.
	if before := m.offered.Add(b.cost()) - b.cost(); before > m.limit {
		m.offered.Add(-b.cost())
		return
	}
	select {
	case m.offers <- b:
	default:
		m.offered.Add(-b.cost())
	}
}

// admit hands offers to ristretto one by one, waiting for each to leave its queue.
func (m *memory) admit() {
	defer close(m.done)
	for {
		select {
		case b := <-m.offers:
			m.take(b)
		case <-m.stop:
			return
		}
	}
}

func (m *memory) take(b *memoryBlob) {
	b.held.Store(true)
	m.bytes.Add(b.cost())
	m.blobs.Add(1)
	if !m.cache.Set(b.digest.Sum64(), b, b.cost()) {
		m.release(b)
	}
	m.cache.Wait()
	m.offered.Add(-b.cost())
	if b.entry.gone.Load() {
		m.drop(b.digest) // the content was removed while it waited here, and drop came too early
	}
}

// drop removes content from the tier. What collides with it is dropped too, which does no harm.
func (m *memory) drop(d oci.Digest) {
	if m == nil {
		return
	}
	g, open := m.enter(d)
	defer g.RUnlock()
	if open {
		m.cache.Del(d.Sum64())
	}
}

func (m *memory) evicted(item *ristretto.Item[*memoryBlob]) {
	if item.Value != nil {
		m.onEvict(item.Cost)
	}
}

// left is called once a value is out of ristretto: evicted, refused, replaced or deleted. The value may be nil.
func (m *memory) left(b *memoryBlob) {
	if b != nil {
		m.release(b)
	}
}

func (m *memory) release(b *memoryBlob) {
	if b.held.Swap(false) {
		m.bytes.Add(-b.cost())
		m.blobs.Add(-1)
	}
}

// close stops the tier's goroutines. What is offered later is not taken.
func (m *memory) close() {
	if m == nil {
		return
	}
	close(m.stop)
	<-m.done
	for i := range m.gates {
		m.gates[i].Lock()
		m.gates[i].closed = true
		m.gates[i].Unlock()
	}
	m.cache.Close()
}
