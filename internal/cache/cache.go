package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"mirror/internal/oci"
)

// Cache is the store of content. All methods may be called from any goroutine.
type Cache struct {
	log       *slog.Logger
	index     *index
	memory    *memory
	disk      *disk
	records   *records
	room      *room
	space     *space
	suspects  *suspects
	leftovers *leftovers
	shelf     shelf
	metrics   *metrics
	doubt     doubt // what earlier runs may have lost; constant after the start
	sure      bool  // there are no doubts left; belongs to upkeep, and to Close after it
	// complain limits what is said about content that cannot be stored: when a disk is in trouble, all content is.
	complain rate.Sometimes
	buffers  sync.Pool // *[]byte of readSize
	// abandonSize is the constant of that name; tests make it smaller.
	abandonSize int64
	// pace is usualPace; tests make it faster.
	pace pace
	// parallel is usualParallel; tests make it smaller.
	parallel parallel

	// dice chooses among chunks; tests seed it.
	dice *dice

	// names orders stores and removals of complete files: a removal takes it alone, from the table to the unlink, so that
	// it cannot unlink what a new fill of the same digest has just stored. No hit touches it.
	names      sync.RWMutex
	quarantine quarantine // guarded by names
	rechecks   rechecks
	evicting   sync.Mutex // one eviction at a time
	pinning    sync.Mutex // one change of pins at a time, up to the table
	pinWarning rate.Sometimes

	// indexFailing: the last attempt to write the index file has failed, and that was logged.
	indexFailing atomic.Bool

	// looked is closed when the first search for content without a record is over, and the limit holds.
	looked chan struct{}

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	fills   sync.WaitGroup
	running atomic.Int64 // fills, for whoever wants to know and not to wait
	upkeep  sync.WaitGroup
	closing sync.RWMutex // guards closed against fills that start meanwhile
	closed  bool
}

// Open opens the cache in cfg.Dir, making the directory if there is none. Content of earlier runs is there at once, and
// what they were filling continues where it was when somebody asks for it; other leftovers of a crash are swept. A directory that another process owns is refused with an error that says so.
func Open(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Cache, error) {
	return openOn(bootID(), hitBatch, cfg, log, reg)
}

// openOn opens the cache on a machine that has been started under the name boot. Hits in memory are counted in batches.
func openOn(boot string, batch int64, cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Cache, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w (set cache.dir to a directory that this user may write)", err)
	}
	c := &Cache{
		log: log, index: newIndex(), disk: &disk{dir: cfg.Dir, lazy: cfg.Sync == SyncLazy, boot: boot}, room: newRoom(int64(cfg.MaxSize)),
		space:       &space{dir: cfg.Dir, least: int64(cfg.MinFree), look: spaceOf},
		suspects:    &suspects{until: make(map[oci.Digest]time.Time)},
		complain:    rate.Sometimes{First: 1, Interval: time.Minute},
		abandonSize: abandonSize, pace: usualPace(), parallel: usualParallel(),
		dice:      newDice(rand.Uint64()),
		rechecks:  rechecks{running: make(map[*entry]*recheck)},
		leftovers: &leftovers{files: make(map[string]int64)}, looked: make(chan struct{}),
		pinWarning: rate.Sometimes{First: 1, Interval: pinWarningInterval},
		buffers:    sync.Pool{New: func() any { b := make([]byte, readSize); return &b }},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	var err error
	var rebuild bool
	if c.records, rebuild, err = openRecords(cfg.Dir); err != nil {
		c.cancel()
		return nil, err
	}
	if err = c.restore(rebuild); err == nil {
		c.memory, err = newMemory(cfg.Memory, batch, func(n int64) { c.metrics.evictedFromMemory(n) })
	}
	if err != nil {
		c.cancel()
		return nil, errors.Join(fmt.Errorf("open cache: %w", err), c.records.close())
	}
	c.metrics = newMetrics(c, reg) // from now on somebody may look
	c.upkeep.Go(func() { c.keepUp(!rebuild) })
	if c.room.ahead > 0 {
		c.upkeep.Go(c.evictAhead)
	}
	if cfg.Scrub.Rate > 0 {
		c.upkeep.Go(func() { c.scrub(rate.NewLimiter(rate.Limit(cfg.Scrub.Rate), readSize)) })
	}
	return c, nil
}

// Open opens complete or growing content, or returns ErrNotFound. This is the hit: a lookup in memory, at most one open
// of a file, no lock across it. When the file has changed since it was verified, it is read first (recheck.go).
func (c *Cache) Open(d oci.Digest) (*Blob, error) { return c.open(d, (*fill).attach) }

// Stored opens complete content that is not in memory (Memory), as Open does. Content that is being filled is not found.
func (c *Cache) Stored(d oci.Digest) (*Blob, error) {
	if e, _ := c.index.find(d); e != nil {
		return c.openEntry(d, e)
	}
	return nil, ErrNotFound
}

// Memory returns content that is in memory, as one more hit, or nil. It is never written to.
func (c *Cache) Memory(d oci.Digest) []byte {
	m := c.memory.get(d)
	if m == nil {
		return nil
	}
	m.entry.hit()
	return m.data
}

// open opens complete content, or growing content if attach does not refuse the fill.
func (c *Cache) open(d oci.Digest, attach func(*fill) bool) (*Blob, error) {
	if data := c.Memory(d); data != nil {
		return &Blob{digest: d, tier: TierMemory, data: data, size: int64(len(data))}, nil
	}
	for {
		e, f := c.index.find(d)
		switch {
		case e != nil:
			return c.openEntry(d, e)
		case f == nil:
			return nil, ErrNotFound
		case attach(f):
			return &Blob{digest: d, tier: TierSource, fill: f}, nil
		}
		<-f.done // it has just left the table, or is about to because nobody wanted it
	}
}

// openEntry opens complete content on disk. Content that turns out to be gone, short or altered is taken out of service,
// and not found.
func (c *Cache) openEntry(d oci.Digest, e *entry) (*Blob, error) {
	e.hit()
	if b := c.shelvedBlob(d, e); b != nil {
		return b, nil
	}
	file, err := c.disk.open(d)
	if err != nil {
		return nil, c.lost(d, e, err)
	}
	if !c.memory.takes(e.size) {
		return c.openLarge(d, e, file)
	}
	defer file.Close()
	data, err := c.readWhole(file, d, e.size)
	if err != nil {
		return nil, c.lost(d, e, err)
	}
	c.memory.offer(d, data, e)
	return &Blob{digest: d, tier: TierDisk, data: data, size: e.size}, nil
}

// openLarge opens content that is served from its file.
func (c *Cache) openLarge(d oci.Digest, e *entry, file *os.File) (*Blob, error) {
	if err := c.unaltered(d, e, file); err != nil {
		_ = file.Close() // the error says what matters
		return nil, c.lost(d, e, err)
	}
	return c.storedBlob(d, e, file), nil
}

// storedBlob is content whose file is in order.
func (c *Cache) storedBlob(d oci.Digest, e *entry, file *os.File) *Blob {
	return &Blob{digest: d, tier: TierDisk, file: file, size: e.size, shelf: &c.shelf, entry: e}
}

// shelvedBlob opens content by a file that an earlier reader has left open, or returns nil. A file that was changed since it was
// verified, or has another name or none, is left to whoever opens it by its name.
func (c *Cache) shelvedBlob(d oci.Digest, e *entry) *Blob {
	file := c.shelf.take(e)
	if file == nil {
		return nil
	}
	if stamp, err := stampOfLength(file, e.size); err != nil || stamp != e.stamp.Load() {
		_ = file.Close() // it was only read
		return nil
	}
	return c.storedBlob(d, e, file)
}

// readWhole reads small content and verifies it: it will be served from memory for a long time.
func (c *Cache) readWhole(file *os.File, d oci.Digest, size int64) ([]byte, error) {
	data := make([]byte, size)
	if err := c.disk.readAt(file, data, 0); err != nil {
		return nil, err
	}
	if !d.Verifies(data) {
		return nil, wrongDigest(d)
	}
	return data, nil
}

// lost handles content that could not be read. It is taken out of service, unless the reason is not the file but this
// process.
func (c *Cache) lost(d oci.Digest, e *entry, err error) error {
	if errors.Is(err, ErrClosed) {
		return err
	}
	if isExhaustion(err) {
		return diskError("open content", err)
	}
	c.heal(d, e, err)
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
		b, err = c.start(r, func(f *fill) { f.readers = 1 })
		if b != nil || err != nil {
			return b, false, err
		}
	}
}

// start starts a fill, unless the content has come into the table since it was looked up; then both results are nil. The
// fill is made ready by the function given, before anybody else sees it.
func (c *Cache) start(r Request, ready func(*fill)) (*Blob, error) {
	c.closing.RLock()
	defer c.closing.RUnlock()
	if c.closed {
		return nil, ErrClosed
	}
	s := c.index.shard(r.Digest)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entryLocked(r.Digest) != nil || s.fills[r.Digest] != nil {
		return nil, nil
	}
	f := c.newFill(r, s.takePart(r.Digest))
	ready(f)
	s.fills[r.Digest] = f
	c.fills.Add(1)
	c.running.Add(1)
	go f.run()
	return &Blob{digest: r.Digest, tier: TierSource, fill: f}, nil
}

// Put stores content that the caller has whole. Content that is stored or being filled already is left as it is. The
// cache keeps data, so it must not be changed afterwards.
func (c *Cache) Put(d oci.Digest, data []byte) error {
	if !d.Verifies(data) {
		return fmt.Errorf("put: %w", wrongDigest(d))
	}
	c.closing.RLock()
	defer c.closing.RUnlock()
	if c.closed {
		return ErrClosed
	}
	if c.taken(d) {
		return nil
	}
	p, err := c.newPart(d, int64(len(data)), int64(len(data)))
	if err != nil {
		c.metrics.notStored(err)
		return fmt.Errorf("put %s: %w", d, err)
	}
	err = c.write(p, data, 0)
	if err == nil {
		err = c.store(d, p, func(e *entry) bool { return c.index.put(d, e) })
	}
	if err != nil {
		c.discardPart(p)
		c.metrics.notStored(err)
		return diskError("put "+d.String(), err)
	}
	_ = p.file.Close() // synced when it was stored
	if e, _ := c.index.find(d); e != nil {
		c.memory.offer(d, data, e)
	}
	return nil
}

// store makes verified content complete: content on disk, name, record, table, in this order, so that a crash in between
// leaves a partial file, or a complete one without a record (taken in by the next start). A record that cannot be written
// now is written later: the index file is no reason not to keep content. enter puts the entry into the table and reports
// whether it is there; if somebody else's is, the room of this one is given back, once its file is gone. After an error the
// part is still the caller's. Its file stays open either way.
func (c *Cache) store(d oci.Digest, p *part, enter func(*entry) bool) error {
	if err := errors.Join(p.synced(), c.disk.sync(p.file)); err != nil {
		return fmt.Errorf("sync content: %w", err)
	}
	entered, err := c.publish(d, p, enter)
	if !entered {
		c.disown(d, p.size)
		if err == nil {
			c.room.give(p.reserved)
		}
	}
	return err
}

// publish gives synced content its name, its record and its entry.
func (c *Cache) publish(d oci.Digest, p *part, enter func(*entry) bool) (entered bool, err error) {
	c.names.RLock()
	defer c.names.RUnlock()
	if err := c.disk.name(d, p.file); err != nil {
		return false, err
	}
	if n, ok := c.leftovers.take(blobPath(c.disk.dir, d)); ok {
		c.room.give(n) // the rename has replaced that file
	}
	now := time.Now().Unix()
	rec := record{digest: d, size: p.size, stored: now, use: FirstUse(now)}
	if info, err := p.file.Stat(); err == nil { // else it is unknown, and the first hit verifies
		rec.stamp = stampOf(info)
	}
	if err := c.records.put(rec); err != nil {
		c.indexFailed(err) // a start without the record finds the file
	}
	if !enter(newEntry(rec)) {
		return false, nil
	}
	c.room.give(p.reserved - p.size)
	return true, nil
}

// disown removes the file and the record of content that did not get into the table, unless an entry of somebody else
// owns them. A fill of the same digest that is still running stores them anew.
func (c *Cache) disown(d oci.Digest, size int64) {
	c.names.Lock()
	defer c.names.Unlock()
	if e, _ := c.index.find(d); e != nil {
		return
	}
	if err := c.records.remove([]oci.Digest{d}); err != nil {
		c.indexFailed(err)
	}
	if err := c.disk.remove(d); err != nil {
		c.log.Warn("content that is not stored could not be unlinked; that is tried again later", "digest", d, "error", err)
		c.room.hold(size)
		c.leftovers.add(blobPath(c.disk.dir, d), size)
	}
}

// Stat returns the size of complete content, without opening it or counting as a use.
func (c *Cache) Stat(d oci.Digest) (size int64, ok bool) {
	e, _ := c.index.find(d)
	if e == nil {
		return 0, false
	}
	return e.size, true
}

// Close ends all fills, writes out what is pending and gives the directory free. What fills have got so far is kept for
// the next run. Blobs that are open keep their files.
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
	c.keepParts()
	c.memory.close()
	c.shelf.close()
	err := c.records.close()
	if c.sure {
		err = errors.Join(err, c.disk.noteSynced())
	}
	return err
}
