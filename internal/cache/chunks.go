package cache

import (
	"math/rand/v2"
	"sync"
)

// Content that is shared between nodes comes in chunks (Request.Chunk): each has a source of its own, so how many fetches run
// at once is not measured but given, and no fetch takes over what another has begun. The order is what matters. In order,
// all nodes would want the same chunk at the same time; at random among the next ones, they soon have different ones to give
// each other, and a reader at the front still gets what it waits for.

// chunkWindow is how many missing chunks a fill chooses among. Up to 64 the time that a whole fleet needs falls, beyond it
// does not (DESIGN.md).
const chunkWindow = 64

// chunkedLocked reports whether what is missing is fetched in chunks. A source without ranges cannot deliver them, and one that
// has answered without telling a length leaves open which is the last; then one fetch brings everything.
func (f *fill) chunkedLocked() bool {
	return f.request.Chunk > 0 && !f.sequential && (f.part.size >= 0 || !f.opened)
}

// chunksLocked starts the fetches of chunks that should be running and are not. Until a source has answered there is only one:
// the length and the ranges are still in doubt.
func (f *fill) chunksLocked() {
	f.frontChunkLocked()
	if !f.opened {
		return
	}
	f.piecesLocked()
	for w := range f.waits {
		f.wantLocked(w)
	}
	f.spreadLocked()
}

// frontChunkLocked sees to it that the chunk with the first missing byte is fetched, whatever else is. One fetch that is about
// to end makes room for it.
func (f *fill) frontChunkLocked() {
	at := f.part.prefix()
	if at >= f.endLocked() || len(f.fetches) >= f.request.Fetches && f.endingLocked() {
		return
	}
	f.startChunkLocked(at)
}

// spreadLocked starts fetches of chunks chosen at random until as many run as may.
func (f *fill) spreadLocked() {
	for !f.ahead && len(f.fetches) < f.request.Fetches {
		missing := f.missingChunksLocked()
		if len(missing) == 0 {
			return
		}
		f.startChunkLocked(missing[f.cache.dice.below(len(missing))])
	}
}

// missingChunksLocked returns the first missing byte of each of the next chunks that nobody is fetching.
func (f *fill) missingChunksLocked() []int64 {
	var missing []int64
	at := f.part.prefix()
	for at < f.endLocked() && len(missing) < chunkWindow {
		chunk := f.chunkLocked(at)
		if !f.busyLocked(chunk) {
			missing = append(missing, at)
		}
		at = f.part.present.endFrom(chunk.End)
	}
	return missing
}

// startChunkLocked starts a fetch of what is missing around the byte at at in its chunk, unless a fetch is at work in it.
func (f *fill) startChunkLocked(at int64) {
	chunk := f.chunkLocked(at)
	if f.busyLocked(chunk) {
		return
	}
	from := max(chunk.Start, f.part.present.endBefore(at))
	f.startLocked(from, chunk.End, from == f.part.prefix())
}

// chunkLocked returns the chunk with the byte at off.
func (f *fill) chunkLocked(off int64) Span {
	start := off - off%f.request.Chunk
	return Span{start, min(start+f.request.Chunk, f.endLocked())}
}

// busyLocked reports whether a fetch is at work in a chunk.
func (f *fill) busyLocked(chunk Span) bool {
	for _, t := range f.fetches {
		if t.pos < t.limit && t.pos < chunk.End && t.limit > chunk.Start {
			return true
		}
	}
	return false
}

// dice chooses at random; with the same seed it makes the same choices.
type dice struct {
	mu     sync.Mutex
	random *rand.Rand
}

func newDice(seed uint64) *dice { return &dice{random: rand.New(rand.NewPCG(seed, 0))} }

// below returns a number from 0 to n-1.
func (d *dice) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.random.IntN(n)
}
