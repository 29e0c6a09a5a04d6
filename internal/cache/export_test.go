package cache

import (
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Operations are the labels of file operations.
var Operations = []string{
	string(opCreate), string(opOpen), string(opRead), string(opWrite), string(opTruncate),
	string(opSync), string(opRename), string(opUnlink), string(opSyncDir), string(opJournal), string(opPins),
	string(opIndex),
}

// SetFault makes file operations fail for which fault returns an error. Nothing may be going on in the cache meanwhile.
func (c *Cache) SetFault(fault func(operation string) error) {
	<-c.looked
	c.disk.fault = func(op operation) error { return fault(string(op)) }
	c.records.fault = c.disk.fault
}

// StampOf tells files apart that were changed, from the same files before.
func StampOf(info os.FileInfo) int64 { return stampOf(info) }

// Taken returns how many bytes of room are accounted for.
func (c *Cache) Taken() int64 {
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	return c.room.taken
}

// SetAbandonSize makes fills larger than n bytes stop when nobody reads them.
func (c *Cache) SetAbandonSize(n int64) { c.abandonSize = n }

// SetPace lets each fill write a journal in that interval if anything has come. No fill may have been started yet.
func (c *Cache) SetPace(interval time.Duration) { c.pace = pace{look: interval, bytes: 1} }

// SetSpace replaces what the file system says of its free bytes and of all.
func (c *Cache) SetSpace(look func() (free, all int64)) {
	<-c.looked
	c.space.look = func(string) (free, all int64, err error) { free, all = look(); return free, all, nil }
}

// DiskBytes returns how many bytes of content are on the disk, partial content included.
func (c *Cache) DiskBytes() int64 {
	_, _, partial := c.partial()
	return c.index.bytes.Load() + partial
}

// SetParallel lets content from so many bytes on be fetched over several connections, begin of them at first, in segments
// of the given length at first, and from an eighth of it to eight times as much later.
func (c *Cache) SetParallel(least, segment int64, begin int) {
	c.parallel = parallel{least: least, first: segment, shortest: max(1, segment/8), longest: 8 * segment, begin: begin}
}

// OpenOn opens a cache as if the machine had been started under the name boot.
func OpenOn(boot string, cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Cache, error) {
	return openOn(boot, hitBatch, cfg, log, reg)
}

// OpenCounting opens a cache whose memory tier counts each hit at once. Ristretto keeps batches in a sync.Pool, which under
// the race detector forgets one in four of what it is given: hardly any batch would ever be full, and counted.
func OpenCounting(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Cache, error) {
	return openOn(bootID(), 1, cfg, log, reg)
}

// SetAhead makes the eviction in the background keep n bytes free, and start if the cache is too small for one. No fill may
// have been started yet.
func (c *Cache) SetAhead(n int64) {
	if c.room.ahead == 0 {
		c.upkeep.Go(c.evictAhead)
	}
	c.room.ahead = n
}

// Free returns how many bytes of the limit are free.
func (c *Cache) Free() int64 {
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	return c.room.limit - c.room.taken
}

// Claimed returns how many bytes the journals in a data directory claim, and how many good journals there are.
func Claimed(dir string) (claimed int64, journals int) {
	names, _ := filepath.Glob(filepath.Join(dir, partialDir, "*"+journalSuffix))
	for _, name := range names {
		if c, _, err := new(disk).readJournal(name); err == nil {
			claimed += c.present.total()
			journals++
		}
	}
	return claimed, journals
}

// SetSeed lets fills choose among chunks by that seed. No fill may have been started yet.
func (c *Cache) SetSeed(seed uint64) { c.dice = newDice(seed) }

// OnDemand returns how many fills fetch nothing but pieces.
func (c *Cache) OnDemand() (n int) {
	c.index.eachFill(func(f *fill) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.demand {
			n++
		}
	})
	return n
}

// ErrRetired ends a fill on demand whose content has come by another way.
var ErrRetired = errRetired
