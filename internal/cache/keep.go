package cache

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"mirror/internal/oci"
)

// pace says how often the journal of a running fill is written. A kill costs what came after the last journal: no more than
// comes within age, and no more than bytes or what comes within look, whichever is larger; what comes while the disk
// syncs; and at the end of content what comes within two looks (almostWhole).
type pace struct {
	look  time.Duration // between two looks at a fill, so that there is never more than one journal in that time
	age   time.Duration // a journal older than this is written anew when anything has come since
	bytes int64         // so many new bytes are worth a new journal at the next look
}

// usualPace syncs every other second at 50 MB/s, and each second at most. What it syncs the commit would have to.
func usualPace() pace { return pace{look: time.Second, age: 5 * time.Second, bytes: 64 << 20} }

// errUnsynced: a sync of the partial file has failed before. The kernel reports such a loss once, so that a later sync
// says nothing of it.
var errUnsynced = errors.New("an earlier sync of the partial file failed")

// journal is what there is of a part's journal. It belongs to the part, not to the fill: a fill that fails leaves its
// part to the next without waiting for a journal that is just being written.
type journal struct {
	mu sync.Mutex // one at a time writes, or removes; held across system calls, and taken by no reader and no hit
	// claimed is how many bytes the last journal claims; 0 when there is none.
	claimed int64
	at      time.Time // when it was written, or the part begun
	// touched: there may be files to remove.
	touched bool
	// unsynced: see errUnsynced. The part must not become complete content.
	unsynced bool
}

// keepJournal writes the part's journal now and then until the fill is over, in its own goroutine.
func (f *fill) keepJournal() {
	ticker := time.NewTicker(f.cache.pace.look)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-f.ctx.Done():
			return
		}
		p, _ := f.partOrFailure()
		if p == nil {
			continue
		}
		if err := f.journal(p); err != nil {
			f.cache.log.Warn("journal of a fill could not be written; a restart will lose more of it", "digest", f.request.Digest, "error", err)
			return
		}
	}
}

// journal writes the journal of the fill's part if enough has come since the last one.
func (f *fill) journal(p *part) error {
	p.journal.mu.Lock()
	defer p.journal.mu.Unlock()
	c := f.claim(p)
	if c == nil {
		return nil
	}
	fresh, since, pace := c.present.total()-p.journal.claimed, time.Since(p.journal.at), f.cache.pace
	if fresh <= 0 || fresh < pace.bytes && since < pace.age || c.almostWhole(fresh, since, pace.look) {
		return nil
	}
	return f.cache.writeJournal(p, c)
}

// almostWhole reports whether what is lacking will have come in a moment, at the rate of the bytes that have come since. The commit syncs
// all of it then; a sync just before is work for the disk and the processor while a client waits: it cost 5 % of a fast
// fill.
func (c *claim) almostWhole(fresh int64, since, look time.Duration) bool {
	lacking := c.size - c.present.total()
	return c.size >= 0 && float64(lacking)*since.Seconds() < float64(fresh)*(2*look).Seconds()
}

// claim returns what is present now, or nil when there is nothing to keep. The caller holds the part's journal, so the part
// can be neither emptied nor removed before that is written.
func (f *fill) claim(p *part) *claim {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.part != p || f.state != filling || f.stopped || f.sequential && p.size < 0 {
		return nil
	}
	return p.claim(f.request.Digest)
}

// claim returns what is present, or nil if the part is so small that it is fetched anew. The caller owns the part.
func (p *part) claim(d oci.Digest) *claim {
	if p.present.total() == 0 || max(p.size, p.present.total()) <= smallLimit {
		return nil
	}
	return &claim{digest: d, size: p.size, present: slices.Clone(p.present), hashed: p.hashed, state: slices.Clone(p.state)}
}

// writeJournal syncs the part and then writes what was present before. The caller holds the journal.
func (c *Cache) writeJournal(p *part, claimed *claim) error {
	if err := c.disk.sync(p.file); err != nil {
		p.journal.unsynced = true
		return fmt.Errorf("sync partial file: %w", err)
	}
	p.journal.touched = true
	if err := c.disk.replace(opJournal, journalPath(p.path), claimed.encode()); err != nil {
		return err
	}
	p.journal.claimed, p.journal.at = claimed.present.total(), time.Now()
	return nil
}

// synced reports whether a sync of the part has failed before.
func (p *part) synced() error {
	p.journal.mu.Lock()
	defer p.journal.mu.Unlock()
	if p.journal.unsynced {
		return errUnsynced
	}
	return nil
}

// dropJournal removes the part's journal. It waits for one that is being written.
func (c *Cache) dropJournal(p *part) {
	p.journal.mu.Lock()
	defer p.journal.mu.Unlock()
	c.dropJournalLocked(p)
}

func (c *Cache) dropJournalLocked(p *part) {
	if !p.journal.touched {
		return
	}
	p.journal.claimed, p.journal.touched = 0, false
	path := journalPath(p.path)
	for _, path := range []string{path, path + newSuffix} {
		if err := c.disk.unlink(path); err != nil {
			c.log.Warn("journal could not be unlinked; that is tried again later", "error", err)
			c.leftovers.add(path, 0)
		}
	}
}

// keepParts writes the journals of what rests, for the next run, and closes the files. No fill is running any more.
func (c *Cache) keepParts() {
	for i := range c.index.shards {
		s := &c.index.shards[i]
		s.mu.Lock()
		resting := s.parts
		s.parts = make(map[oci.Digest]*part)
		s.mu.Unlock()
		for d, p := range resting {
			if c.keepPart(d, p) {
				p.close()
			} else {
				c.discardPart(p)
			}
		}
	}
}

// keepPart brings the journal of a resting part up to date. It reports whether there is one then.
func (c *Cache) keepPart(d oci.Digest, p *part) bool {
	p.journal.mu.Lock()
	defer p.journal.mu.Unlock()
	now := p.claim(d)
	if now == nil || p.journal.unsynced {
		return false
	}
	if p.journal.claimed == now.present.total() {
		return true
	}
	if err := c.writeJournal(p, now); err != nil {
		c.log.Warn("journal of an unfinished fill could not be written; the next run has what an older one says, if any",
			"digest", d, "error", err)
	}
	return p.journal.claimed > 0 && !p.journal.unsynced
}
