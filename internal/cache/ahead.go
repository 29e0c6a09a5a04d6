package cache

import "time"

// FillAhead starts the fill of content that nobody has asked for yet. It returns nil and no error when the content is stored
// or being filled, unless only pieces of it are. Such a fill is like any other, with one difference: until somebody opens the content it comes over one
// connection, so that what clients wait for goes before. The blob is not such an opening. Once it is closed, a fill that
// nobody reads is given up like any other (abandonSize), so it had better not be closed before Ready.
func (c *Cache) FillAhead(r Request) (*Blob, error) {
	if _, f := c.index.find(r.Digest); f != nil && f.attachAhead() {
		return &Blob{digest: r.Digest, tier: TierSource, fill: f}, nil
	}
	return c.start(r, func(f *fill) { f.readers, f.ahead = 1, true })
}

// attachAhead makes a fill on demand fetch everything, for somebody who is no client. It reports whether the fill was one.
func (f *fill) attachAhead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leavingLocked() || !f.onlyPiecesLocked() {
		return false
	}
	f.readers++
	f.ahead = true
	f.turnLocked()
	return true
}

// Done returns a channel that is closed when the fill of a growing blob has ended, well or not, and its content is stored
// or not; of any other blob it is closed already.
func (b *Blob) Done() <-chan struct{} {
	if b.fill != nil {
		return b.fill.done
	}
	over := make(chan struct{})
	close(over)
	return over
}

// askedLocked notes that somebody wants the content: from now on it gets as many connections as are worth while.
func (f *fill) askedLocked() {
	if f.ahead {
		f.ahead = false
		f.scheduleLocked()
	}
	f.turnLocked()
}

// Spare reports whether there is room for n bytes that nobody has asked for: they are free, or what would be evicted for
// them was used only once, and not just now. It looks at everything when the cache is full, so it is for batches, not for
// each content. Nothing is reserved.
func (c *Cache) Spare(n int64) bool {
	if c.space.isFull() || n > c.room.limit {
		return false
	}
	need := max(c.room.pressedBy(n), c.space.lacking(n, c.promised()))
	if need <= 0 {
		return true
	}
	now := time.Now().Unix()
	for _, chosen := range Coldest(c.index.candidates(), need, c.room.limit, now) {
		if !chosen.Use.newcomer() || now-chosen.Use.At() < fresh {
			return false
		}
		need -= chosen.Size
	}
	return need <= 0
}
