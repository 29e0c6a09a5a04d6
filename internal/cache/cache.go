package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/oci"
)

// Cache is the store of content. All methods may be called from any goroutine.
type Cache struct {
	log      *slog.Logger
	index    *index
	memory   *memory
	disk     *disk
	records  *records
	room     *room
	suspects *suspects
	metrics  *metrics
	buffers  sync.Pool // *[]byte of readSize

	// names orders stores and removals of complete files: a removal takes it alone, from the table to the unlink, so that
	// it cannot unlink what a new fill of the same digest has just stored. No hit touches it.
	names    sync.RWMutex
	evicting sync.Mutex // one eviction at a time

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	fills   sync.WaitGroup
	upkeep  sync.WaitGroup
	closing sync.RWMutex // guards closed against fills that start meanwhile
	closed  bool
}

// Open opens the cache in cfg.Dir, making the directory if there is none. Content of earlier runs is there at once;
// leftovers of a crash are swept. A directory that another process owns is refused with an error that says so.
func Open(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Cache, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w (set cache.dir to a directory that this user may write)", err)
	}
	c := &Cache{
		log: log, index: newIndex(), disk: &disk{dir: cfg.Dir}, room: &room{limit: int64(cfg.MaxSize)},
		suspects: &suspects{until: make(map[oci.Digest]time.Time)},
		buffers:  sync.Pool{New: func() any { b := make([]byte, readSize); return &b }},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.metrics = newMetrics(c, reg)
	var err error
	var rebuild bool
	if c.records, rebuild, err = openRecords(cfg.Dir); err != nil {
		return nil, err
	}
	if err = c.restore(rebuild); err == nil {
		c.memory, err = newMemory(cfg.Memory, c.metrics.evictedFromMemory)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open cache: %w", err), c.records.close())
	}
	c.upkeep.Add(1)
	go c.keepUp(!rebuild)
	return c, nil
}

// Open opens complete or growing content, or returns ErrNotFound. This is the hit: a lookup in memory, at most one open
// of a file, no lock across it.
func (c *Cache) Open(d oci.Digest) (*Blob, error) {
	if m := c.memory.get(d); m != nil {
		m.entry.used.Store(time.Now().Unix())
		return &Blob{digest: d, tier: TierMemory, data: m.data, size: int64(len(m.data))}, nil
	}
	e, f := c.index.find(d)
	if e != nil {
		return c.openEntry(d, e)
	}
	if f != nil && f.attach() {
		return &Blob{digest: d, tier: TierSource, fill: f}, nil
	}
	return nil, ErrNotFound
}

// openEntry opens complete content on disk. Content that turns out to be gone, short or altered is dropped, and not found.
func (c *Cache) openEntry(d oci.Digest, e *entry) (*Blob, error) {
	e.used.Store(time.Now().Unix())
	file, err := c.disk.open(d)
	if err != nil {
		return nil, c.lost(d, e, err)
	}
	b := &Blob{digest: d, tier: TierDisk, file: file, size: e.size}
	if !c.memory.takes(e.size) {
		return b, nil
	}
	defer file.Close()
	b.file = nil
	if b.data, err = readWhole(file, d, e.size); err != nil {
		return nil, c.lost(d, e, err)
	}
	c.memory.offer(d, b.data, e)
	return b, nil
}

// readWhole reads small content and verifies it: it will be served from memory for a long time.
func readWhole(file *os.File, d oci.Digest, size int64) ([]byte, error) {
	data := make([]byte, size)
	if _, err := io.ReadFull(file, data); err != nil {
		return nil, err
	}
	if !d.Verifies(data) {
		return nil, wrongDigest(d)
	}
	return data, nil
}

// lost handles content that could not be read. It is removed, unless the reason is not the file but this process.
func (c *Cache) lost(d oci.Digest, e *entry, err error) error {
	if isExhaustion(err) {
		return diskError("open content", err)
	}
	if now, _ := c.index.find(d); now == e {
		c.log.Warn("stored content is damaged; it is removed and will be fetched again", "digest", d, "error", err)
		c.discardAll([]victim{{digest: d, entry: e}})
	}
	return ErrNotFound
}

// Fill opens content, starting its fill when it is neither stored nor being filled. It does not wait for the source. The
// blob's tier tells a hit; joined tells that the fill was running already.
func (c *Cache) Fill(r Request) (b *Blob, joined bool, err error) {
	for {
		b, err := c.Open(r.Digest)
		if !errors.Is(err, ErrNotFound) {
			return b, true, err
		}
		b, err = c.start(r)
		if b != nil || err != nil {
			return b, false, err
		}
	}
}

// start starts a fill, unless the content has come into the table since it was looked up; then both results are nil.
func (c *Cache) start(r Request) (*Blob, error) {
	c.closing.RLock()
	defer c.closing.RUnlock()
	if c.closed {
		return nil, ErrClosed
	}
	s := c.index.shard(r.Digest)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[r.Digest] != nil || s.fills[r.Digest] != nil {
		return nil, nil
	}
	f := c.newFill(r, s.takePart(r.Digest))
	f.readers = 1
	s.fills[r.Digest] = f
	c.fills.Add(1)
	go f.run()
	return &Blob{digest: r.Digest, tier: TierSource, fill: f}, nil
}

// Put stores content that the caller has whole. Content that is stored or being filled already is left as it is.
func (c *Cache) Put(d oci.Digest, data []byte) error {
	if !d.Verifies(data) {
		return fmt.Errorf("put: %w", wrongDigest(d))
	}
	c.closing.RLock()
	defer c.closing.RUnlock()
	if c.closed {
		return ErrClosed
	}
	if e, f := c.index.find(d); e != nil || f != nil {
		return nil
	}
	p, err := c.newPart(d, int64(len(data)))
	if err != nil {
		return fmt.Errorf("put %s: %w", d, err)
	}
	err = c.disk.writeAt(p.file, data, 0)
	if err == nil {
		err = c.store(d, p, func(e *entry) bool {
			c.memory.offer(d, data, e)
			return c.index.put(d, e)
		})
	}
	if err != nil {
		c.discardPart(p)
		return diskError("put "+d.String(), err)
	}
	return nil
}

// store makes verified content complete: content on disk, name, record, table, in this order, so that a crash in between
// leaves a partial file (swept), or a complete one without a record (taken in by the next start). enter puts the entry
// into the table and reports whether it is there; if somebody else's is, the room of this one is given back.
func (c *Cache) store(d oci.Digest, p *part, enter func(*entry) bool) error {
	if err := c.disk.sync(p.file); err != nil {
		return fmt.Errorf("sync content: %w", err)
	}
	c.names.RLock()
	defer c.names.RUnlock()
	if err := c.disk.name(d, p.file); err != nil {
		return err
	}
	e := &entry{size: p.size}
	now := time.Now().Unix()
	e.used.Store(now)
	if err := c.records.put(record{digest: d, size: p.size, stored: now}); err != nil {
		return errors.Join(fmt.Errorf("write record: %w", err), c.disk.remove(d))
	}
	_ = p.file.Close() // synced above
	if !enter(e) {
		c.room.give(p.reserved)
		return nil
	}
	c.room.give(p.reserved - p.size)
	return nil
}

// Stat returns the size of complete content, without opening it or counting as a use.
func (c *Cache) Stat(d oci.Digest) (size int64, ok bool) {
	e, _ := c.index.find(d)
	if e == nil {
		return 0, false
	}
	return e.size, true
}

// Remove removes complete content; its room is free at once. It reports whether the content was there. A running fill is
// not disturbed.
func (c *Cache) Remove(d oci.Digest) bool {
	e, _ := c.index.find(d)
	if e == nil {
		return false
	}
	c.discardAll([]victim{{digest: d, entry: e}})
	return true
}

// Close ends all fills, writes out what is pending and gives the directory free. Blobs that are open keep their files.
func (c *Cache) Close() error {
	c.closing.Lock()
	again := c.closed
	c.closed = true
	c.closing.Unlock()
	if again {
		return nil
	}
	c.cancel()
	c.fills.Wait()
	c.upkeep.Wait()
	c.dropAllParts()
	c.memory.close()
	return c.records.close()
}
