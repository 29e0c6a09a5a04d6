package cache

// A normal fill holds room for its whole content from the moment that the length is known; one on demand for what it has, and
// what its fetches are going to bring. What a part holds is guarded by fill.booking.

// booksAtOnce returns how much room a fill of content of the given size, -1 if unknown, takes before it begins: for all of
// it, or for nothing when it is on demand.
func (f *fill) booksAtOnce(size int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.demand {
		return 0
	}
	return max(0, size)
}

// reserve makes sure that a part without fetches holds as much.
func (f *fill) reserve(p *part) error {
	f.booking.Lock()
	defer f.booking.Unlock()
	return f.cache.book(p, f.booksAtOnce(p.size))
}

// giveBack lets a part hold room for the bytes that it has, and no more. No fetch is running.
func (f *fill) giveBack(p *part) {
	f.booking.Lock()
	defer f.booking.Unlock()
	f.cache.room.give(p.reserved - p.present.total())
	p.reserved = p.present.total()
}

// afford books room for what a fetch is going to bring, where that has not happened for the content as a whole.
func (f *fill) afford(t *fetch) error {
	f.booking.Lock()
	defer f.booking.Unlock()
	f.mu.Lock()
	need, on := f.part.present.total(), f.demand
	for _, t := range f.fetches {
		need += t.left()
	}
	f.mu.Unlock()
	if !on {
		return nil
	}
	if err := f.cache.book(f.part, need); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t.booked = true
	return nil
}

// left returns how many bytes the fetch has still to bring.
func (t *fetch) left() int64 { return max(0, t.limit-t.pos) }

// grow books room for content of unknown length up to end, and some more when there is any.
func (f *fill) grow(end int64) error {
	f.booking.Lock()
	defer f.booking.Unlock()
	f.mu.Lock()
	end = max(end, f.part.present.total()+readSize*int64(len(f.fetches))) // there may be pieces further on
	f.mu.Unlock()
	if end <= f.part.reserved {
		return nil
	}
	return f.cache.grow(f.part, end)
}

// promisedLocked returns how many bytes the fill is going to write, as far as room was booked for them.
func (f *fill) promisedLocked() (n int64) {
	p := f.part
	switch {
	case p == nil:
	case f.demand:
		for _, t := range f.fetches {
			if t.booked {
				n += t.left()
			}
		}
	case p.size >= 0:
		n = p.size - p.present.total()
	}
	return n
}

// reserves returns how much room the fill holds, as far as it is for bytes whose number is known.
func (f *fill) reserves() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch p := f.part; {
	case p == nil:
		return max(0, f.length)
	case f.demand:
		return p.present.total() + f.promisedLocked()
	default:
		return max(0, p.size)
	}
}
