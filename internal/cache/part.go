package cache

import (
	"hash"
	"os"
	"time"

	"mirror/internal/oci"
)

const (
	// partAge and partCount bound what failed fills leave behind: an hour is longer than any client retries.
	partAge   = time.Hour
	partCount = 256
	// partFresh is how long a part rests before it makes room for anything, rather than after all content: a client that
	// was cut short comes back within minutes, and finds what it paid for.
	partFresh = 10 * time.Minute
)

// part is content that is not complete: a sparse partial file and the set of bytes that are in it. It belongs to a fill,
// or rests in the table for the next fill of its digest.
type part struct {
	// path is the name of the partial file. Once the content is complete the file has another.
	path string
	// file is nil while a part of an earlier run rests: nothing of those is open.
	file    *os.File
	size    int64 // of the whole content; -1 while unknown
	present spans
	// hash has seen the first hashed bytes of the content; state is what it can be continued from at that point. The hash
	// belongs to whoever feeds it, the state to everybody.
	hash   hash.Hash
	hashed int64
	state  []byte
	// reserved is how much room the part holds.
	reserved int64
	rested   time.Time
	journal  journal
}

// fit prepares a resting part for content of the given size, -1 if unknown. It reports whether the part can be continued.
func (p *part) fit(size int64) bool {
	if size < 0 || p.size == size {
		return true
	}
	if p.size >= 0 || p.prefix() > size {
		return false
	}
	p.size = size
	return true
}

// prefix returns how many bytes from the start are present without a gap.
func (p *part) prefix() int64 { return p.present.endFrom(0) }

// whole reports whether every byte is present.
func (p *part) whole() bool { return p.size >= 0 && p.present.total() == p.size }

// newPart makes an empty part of content of the given size, -1 if unknown, in the disk tier. It holds so much room.
func (c *Cache) newPart(d oci.Digest, size, reserve int64) (*part, error) {
	if err := c.reserve(reserve); err != nil {
		return nil, err
	}
	file, err := c.disk.create(d)
	if err != nil {
		c.room.give(reserve)
		return nil, diskError("create partial file", err)
	}
	return &part{
		path: file.Name(), file: file, size: size, hash: d.Hash(), reserved: reserve, journal: journal{at: time.Now()},
	}, nil
}

// hashedMore notes that the hash has seen n more bytes. The caller feeds the hash, and holds the lock of its fill.
func (p *part) hashedMore(n int64) {
	p.hashed += n
	p.state = appendState(p.state[:0], p.hash)
}

// empty forgets all bytes; from now on the content is of the given size, -1 if unknown.
func (p *part) empty(size int64) {
	p.size, p.present, p.hashed, p.state = size, nil, 0, nil
	p.hash.Reset()
}

// close closes the file of a part that nobody uses any more.
func (p *part) close() {
	if p.file != nil {
		_ = p.file.Close() // synced, or nothing in it is wanted
	}
}

// book makes sure that the part holds room for bytes up to end.
func (c *Cache) book(p *part, end int64) error {
	if end <= p.reserved {
		return nil
	}
	if err := c.reserve(end - p.reserved); err != nil {
		return err
	}
	p.reserved = end
	return nil
}

// growStep is how much room content of unknown size reserves at a time.
const growStep = 4 << 20

// grow books room for bytes up to end, and some more when there is any.
func (c *Cache) grow(p *part, end int64) error {
	if err := c.book(p, end+growStep); err == nil {
		return nil
	}
	return c.book(p, end)
}

// discardPart removes a part and closes its file. It returns the bytes of room freed.
func (c *Cache) discardPart(p *part) int64 {
	freed := c.unlinkPart(p)
	p.close()
	return freed
}

// unlinkPart removes a part with its journal and gives its room back. Its file stays open, for readers that share it.
func (c *Cache) unlinkPart(p *part) int64 {
	c.dropJournal(p)
	if err := c.disk.unlink(p.path); err != nil {
		c.log.Warn("partial file could not be unlinked; that is tried again later", "error", err)
		c.leftovers.add(p.path, p.reserved)
		return 0
	}
	c.room.give(p.reserved)
	return p.reserved
}

// takePart removes the resting part of d from the table, if there is one. The caller holds the shard's lock.
func (s *shard) takePart(d oci.Digest) *part {
	p := s.parts[d]
	delete(s.parts, d)
	return p
}

// dropParts discards resting parts that have rested for least, oldest first, until need bytes are free, and those that have
// rested too long or are too many anyway. It returns the bytes freed.
func (c *Cache) dropParts(need int64, least time.Duration) int64 {
	var freed int64
	for {
		d, oldest, rested, count := c.oldestPart()
		age := time.Since(rested)
		wanted := freed < need && age >= least || count > partCount || age >= partAge
		if oldest == nil || !wanted {
			return freed
		}
		s := c.index.shard(d)
		s.mu.Lock()
		mine := s.parts[d] == oldest
		if mine {
			delete(s.parts, d)
		}
		s.mu.Unlock()
		if mine {
			freed += c.discardPart(oldest)
		}
	}
}

// oldestPart returns the part that has rested longest, since when it rests, and how many there are. Unless the caller then
// takes the part out of the table, a fill may take it, and change it.
func (c *Cache) oldestPart() (d oci.Digest, oldest *part, rested time.Time, count int) {
	for i := range c.index.shards {
		s := &c.index.shards[i]
		s.mu.RLock()
		for digest, p := range s.parts {
			count++
			if oldest == nil || p.rested.Before(rested) {
				d, oldest, rested = digest, p, p.rested
			}
		}
		s.mu.RUnlock()
	}
	return d, oldest, rested, count
}
