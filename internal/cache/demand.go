package cache

import (
	"errors"
	"sync"
	"time"

	"mirror/internal/oci"
)

// A fill on demand fetches nothing but the chunks of pieces that others have asked for. It differs from a normal fill in
// three things: the order, which has no front; the room, which is booked chunk by chunk instead of for the whole content;
// and the end, which comes when nobody has asked for a while. The first client makes a normal fill of it.

// demandIdle is how long a fill on demand waits for the next piece. Who asks for one chunk of a layer mostly asks for another
// soon, and what the fill has is kept in any case.
const demandIdle = 10 * time.Second

// onDemand is what a fill has for that.
type onDemand struct {
	// turn gets a value when the fill should become a normal one.
	turn chan struct{}
	// booking orders what decides how much room the part must hold: its size, and whether the fill is on demand. It guards the
	// part's room while fetches run, and is held across evictions, so never under fill.mu.
	booking sync.Mutex

	// demand: nobody wants more than pieces. Set under booking and fill.mu. idleSince is when the last piece was closed; guarded by
	// fill.mu.
	demand    bool
	idleSince time.Time
}

// piecesLocked starts fetches for all pieces that lack something. Of each the chunk with its first missing byte is fetched, so
// a piece of several chunks gets one after the other. Nobody else's fetches count against them: whoever has asked for a piece
// was promised that this node gets it.
func (f *fill) piecesLocked() {
	if f.stopped || f.sequential {
		return
	}
	for p := range f.pieces {
		if at, missing := f.lacksLocked(p); missing && f.deniedLocked(p) == nil {
			f.startChunkLocked(at)
		}
	}
}

// refusedLocked handles a fetch that has given up: the pieces that wait for its chunk fail, and others go on. It reports
// whether the fill ends with it, because there is nothing left that it could do.
func (f *fill) refusedLocked(t *fetch, err error) (end bool) {
	if errors.Is(err, ErrNoRange) {
		return false // it becomes a normal fill
	}
	chunk, end := f.chunkLocked(t.pos), len(f.fetches) == 0 && f.onlyPiecesLocked()
	for p := range f.pieces {
		at, missing := f.lacksLocked(p)
		if missing && chunk.Start <= at && at < chunk.End {
			p.refused = err
		}
		end = end && p.refused != nil
	}
	f.wakeLocked()
	return end
}

// onlyPiecesLocked reports whether the fill is on demand and stays that, as far as known.
func (f *fill) onlyPiecesLocked() bool { return f.demand && f.readers == 0 }

// turnLocked asks for a fill on demand to become a normal one.
func (f *fill) turnLocked() {
	if !f.demand {
		return
	}
	select {
	case f.turn <- struct{}{}:
	default: // it knows
	}
}

// becomeNormal makes a fill on demand fetch everything, if there is room for that.
func (f *fill) becomeNormal() {
	f.booking.Lock()
	defer f.booking.Unlock()
	f.mu.Lock()
	p, on := f.part, f.demand
	f.mu.Unlock()
	if !on {
		return
	}
	err := f.cache.book(p, p.size)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.stopLocked(err)
		return
	}
	f.normalLocked()
	if f.sequential {
		f.widenLocked()
	}
	f.scheduleLocked()
}

// normalLocked notes that the fill is not on demand any more. What was booked for its fetches is part of what is booked for
// the whole, or they book as they go on.
func (f *fill) normalLocked() {
	f.demand = false
	for _, t := range f.fetches {
		t.booked = false
	}
}

// restLocked lets a fill on demand end when it has got no more pieces for a while.
func (f *fill) restLocked() {
	if f.demand && f.unusedLocked() && !f.stopped {
		f.idleSince = time.Now()
		time.AfterFunc(demandIdle, f.rest)
	}
}

func (f *fill) rest() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.demand && f.unusedLocked() && time.Since(f.idleSince) >= demandIdle {
		f.stopLocked(errRetired)
	}
}

// retire ends a fill on demand, because the content has come by another way. It reports whether the fill was one.
func (f *fill) retire() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.onlyPiecesLocked() {
		return false
	}
	f.stopLocked(errRetired)
	return true
}

// taken reports whether content is stored or being filled. A fill on demand gives way.
func (c *Cache) taken(d oci.Digest) bool {
	for {
		e, f := c.index.find(d)
		if f == nil || !f.retire() {
			return e != nil || f != nil
		}
		<-f.done
	}
}
