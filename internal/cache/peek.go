package cache

import (
	"fmt"

	"mirror/internal/oci"
)

// Peek reads complete content of at most limit bytes from the disk, without counting as a use and without a place in
// memory. It is for inspection: it verifies what it reads, but leaves damage to those who serve it. Content that is not
// here, or longer, is ErrNotFound.
func (c *Cache) Peek(d oci.Digest, limit int64) ([]byte, error) {
	e, _ := c.index.find(d)
	if e == nil || e.size > limit {
		return nil, ErrNotFound
	}
	file, err := c.disk.open(d)
	if err != nil {
		return nil, fmt.Errorf("peek at content: %w", err)
	}
	defer file.Close()
	return c.readWhole(file, d, e.size)
}

// Progress is how far a fill has come.
type Progress struct {
	Digest oci.Digest
	// Size is the length of the content in bytes, or -1 while it is not known.
	Size int64
	// Received is how many bytes are here, those of earlier attempts included.
	Received int64
	// Readers is how many clients are waiting for it.
	Readers int
	// Pieces is how many pieces of it are open for others (Cache.Piece).
	Pieces int
	// Ahead: nobody has asked for it yet (FillAhead).
	Ahead bool
	// Fetches is how many requests to the source are running for it, each on a connection of its own.
	Fetches int
}

// Filling returns the fills that are running, in no order.
func (c *Cache) Filling() []Progress {
	var all []Progress
	c.index.eachFill(func(f *fill) { all = append(all, f.progress()) })
	return all
}

func (f *fill) progress() Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := Progress{Digest: f.request.Digest, Size: f.length, Readers: f.readers, Pieces: len(f.pieces), Ahead: f.ahead, Fetches: len(f.fetches)}
	if f.ahead {
		p.Readers = 0
	}
	if f.part != nil {
		p.Size, p.Received = f.part.size, f.part.present.total()
	}
	return p
}
