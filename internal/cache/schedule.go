package cache

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"
)

// sideLeast and sideMost bound what a fetch that was started for one reader asks for. Clients that read in parallel ask
// for "from here to the end" and take one chunk; a request that were as long as theirs would have to be cut off, with
// what is on its way already. A reader that stays gets more each time, so that it does not wait for a new request often.
const (
	sideLeast = 8 << 20
	sideMost  = 64 << 20
)

// The scheduler decides which bytes are fetched next: first what a waiting reader needs, then the first gap. It runs
// under fill.mu whenever something changes that matters to it; it has no goroutine.

// scheduleLocked starts whatever should be running and is not.
func (f *fill) scheduleLocked() {
	switch {
	case f.stopped || f.part == nil:
	case f.demand:
		f.piecesLocked()
	case f.chunkedLocked():
		f.chunksLocked()
	default:
		f.frontLocked()
		f.waitsLocked()
		f.aheadLocked()
	}
}

// waitsLocked sees to what sleeping readers and open pieces need.
func (f *fill) waitsLocked() {
	for w := range f.waits {
		f.wantLocked(w)
	}
	for p := range f.pieces {
		if at, lacks := f.lacksLocked(p); lacks {
			f.wantLocked(&wait{pos: at, end: p.span.End})
		}
	}
}

// frontLocked makes sure that one fetch works at the first gap that no fetch owns.
func (f *fill) frontLocked() {
	for _, t := range f.fetches {
		if t.front {
			return
		}
	}
	if at, ok := f.firstGapLocked(); ok {
		f.startLocked(at, f.segmentEndLocked(at), true)
	}
}

// aheadLocked starts fetches of the next segments until as many run as are worth while. They are as near to the front as
// can be, so that readers at the front find them there when they come.
func (f *fill) aheadLocked() {
	for f.opened && f.parallelLocked() && len(f.fetches) < f.tuner.target {
		at, ok := f.firstGapLocked()
		if !ok {
			at, ok = f.shareLocked()
		}
		if !ok {
			return
		}
		f.startLocked(at, f.segmentEndLocked(at), false)
	}
}

// shareLocked returns where another fetch could begin when every byte has an owner: inside what will take the slowest of them
// longest. That is the first request of content whose length was not known, which asked for everything, or a connection
// that has become slow.
func (f *fill) shareLocked() (at int64, ok bool) {
	longest := segmentTime
	for _, t := range f.fetches {
		left := t.limit - t.pos
		if takes := t.takes(left); takes > longest && left > 2*t.near() {
			longest, ok = takes, true
			at = t.pos + max(t.near(), min(f.tuner.segment(f.cache.parallel), left/2))
		}
	}
	return at, ok
}

// parallelLocked reports whether the content may be fetched over several connections: somebody wants it, it is long, and
// its source has ranges, as far as known. A length that is only claimed will do.
func (f *fill) parallelLocked() bool {
	return f.tuner.most > 1 && f.request.Chunk == 0 && !f.sequential && !f.ahead && max(f.part.size, f.request.Hint) >= f.cache.parallel.least
}

// segmentEndLocked returns where a fetch that begins at at should end. The last segments are shorter, so that all connections
// are done at about the same time.
func (f *fill) segmentEndLocked(at int64) int64 {
	if !f.parallelLocked() {
		return f.endLocked()
	}
	length := f.tuner.segment(f.cache.parallel)
	if size := f.part.size; size >= 0 {
		length = min(length, max((size-at)/int64(f.tuner.target), f.cache.parallel.shortest))
	}
	return min(at+length, f.endLocked())
}

// firstGapLocked returns the first missing byte that no running fetch is going to bring.
func (f *fill) firstGapLocked() (int64, bool) {
	at := f.part.present.endFrom(0)
	for at < f.endLocked() {
		owner := f.ownerLocked(at)
		if owner == nil {
			return at, true
		}
		at = f.part.present.endFrom(owner.limit)
	}
	return 0, false
}

// wantLocked sees to it that what a sleeping reader needs will come soon.
func (f *fill) wantLocked(w *wait) {
	if f.stopped || f.demand || !f.opened || f.sequential || f.part.size < 0 || len(f.fetches) >= f.tuner.most {
		return
	}
	if f.heldLocked() {
		return // nothing goes out before everything is there, so the order does not matter
	}
	at := f.part.present.endFrom(w.pos)
	if at > w.pos || at >= f.part.size {
		return // it is there, and only held back
	}
	if f.chunkedLocked() {
		f.startChunkLocked(at)
		return
	}
	if owner := f.ownerLocked(at); owner != nil && at-owner.pos <= owner.near() || owner == nil && f.endingLocked() {
		return
	}
	length := min(max(f.part.present.lengthBefore(at), sideLeast), sideMost)
	f.startLocked(at, min(w.end, at+length, f.part.size), false)
}

// ownerLocked returns the fetch that is going to bring the byte at off.
func (f *fill) ownerLocked(off int64) *fetch {
	for _, t := range f.fetches {
		if t.pos <= off && off < t.limit {
			return t
		}
	}
	return nil
}

// endingLocked reports whether a fetch has brought everything and is about to end, which will start what comes next.
func (f *fill) endingLocked() bool {
	return slices.ContainsFunc(f.fetches, func(t *fetch) bool { return t.pos >= t.limit })
}

// endLocked is where the content ends, as far as known.
func (f *fill) endLocked() int64 {
	if f.part.size < 0 {
		return math.MaxInt64
	}
	return f.part.size
}

// startLocked starts a fetch of [at, end). It stops where present bytes or another fetch begin, and a fetch that it starts
// inside of now stops before it.
func (f *fill) startLocked(at, end int64, front bool) {
	end = min(end, f.part.present.startAfter(at))
	for _, t := range f.fetches {
		switch {
		case t.left() == 0:
		case t.pos > at:
			end = min(end, t.pos)
		case t.limit > at:
			t.limit = at
		}
	}
	t := &fetch{fill: f, front: front, pos: at, limit: end, started: time.Now(), origin: at}
	t.ctx, t.cancel = context.WithCancel(f.ctx)
	f.fetches = append(f.fetches, t)
	f.fetching.Add(1)
	go t.run()
}

// widenLocked lets the front go on as far as nobody else is at work. The source has no ranges: what another fetch was
// started for comes by at the front, and a new request would bring everything before it once more.
func (f *fill) widenLocked() {
	if f.demand {
		return // there is no room for that yet
	}
	for _, t := range f.fetches {
		if !t.front || f.part.present.endFrom(t.limit) > t.limit {
			continue
		}
		end := min(f.endLocked(), f.part.present.startAfter(t.limit))
		for _, other := range f.fetches {
			if other.pos >= t.limit && other.left() > 0 {
				end = min(end, other.pos)
			}
		}
		t.limit = max(t.limit, end)
	}
}

// exhaustedLocked reports whether no fetch is left that could still bring something after t has given up, or too many gave up
// without progress: more than ever run at once, so that a short failure of all sources is not the end.
func (f *fill) exhaustedLocked(t *fetch) bool {
	return len(f.fetches) == 0 && t.front || f.giveUps > max(f.request.Fetches, len(f.fetches)+1)
}

// fetchEndedLocked takes a fetch off the list. An error means that it has given up; the fill gives up with it when no
// other fetch is left that could still bring something, or when too many gave up without progress.
func (f *fill) fetchEndedLocked(t *fetch, err error) {
	for i := range f.fetches {
		if f.fetches[i] == t {
			f.fetches = append(f.fetches[:i], f.fetches[i+1:]...)
			break
		}
	}
	if errors.Is(err, ErrNoRange) {
		f.widenLocked()
	}
	switch {
	case errors.Is(err, ErrBusy) && !t.front:
		f.tuner.cap(len(f.fetches)) // and the front goes on
	case err != nil:
		f.giveUps++
		f.tuner.back(time.Now()) // a registry that refuses the second connection is not asked for a third
		if fatal(err) || f.demand && f.refusedLocked(t, err) || !f.demand && f.exhaustedLocked(t) {
			f.stopLocked(err)
			return
		}
	}
	f.settleLocked()
	f.scheduleLocked()
}
