package peer

import (
	"slices"
	"sync"
	"time"

	"mirror/internal/oci"
)

const (
	// boardTime is how long a board is kept without a request for its chunk. All that is on it can be forgotten.
	boardTime = 60 * time.Second
	// boardsMost bounds the boards; beyond it the oldest goes.
	boardsMost = 16 << 10
	// deadTime is how long a member that was found silent is left out. Gossip has removed it by then, or it is back.
	deadTime = 10 * time.Second
)

// chunkID names what is owned: a chunk of a blob.
type chunkID struct {
	digest oci.Digest
	key    int64
}

// board is what a node knows of one chunk: who asked for it here, whom they found dead, and which of its own transfers
// get it.
type board struct {
	mu      sync.Mutex
	used    time.Time
	near    askers               // from the own zone
	far     askers               // from the others: nobody is sent across a border for what its own zone has
	dead    map[string]time.Time // found dead by askers, and until when that is believed
	getting []*transfer
}

// boards are the boards of all chunks that are asked for now.
type boards struct {
	mu    sync.Mutex
	of    map[chunkID]*board
	swept time.Time
}

// get returns the board of a chunk.
func (b *boards) get(id chunkID, now time.Time) *board {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of == nil {
		b.of = map[chunkID]*board{}
	}
	found := b.of[id]
	if now.Sub(b.swept) > boardTime/4 || found == nil && len(b.of) >= boardsMost {
		b.sweepLocked(now)
	}
	if found == nil {
		found = &board{}
		b.of[id] = found
	}
	found.mu.Lock()
	found.used = now
	found.mu.Unlock()
	return found
}

// sweepLocked forgets boards that nobody has used for a while and, when there are still too many, any on which nothing is
// being got, so many at once that the next sweep is far.
func (b *boards) sweepLocked(now time.Time) {
	b.swept = now
	for id, board := range b.of {
		if board.idle(now, boardTime) {
			delete(b.of, id)
		}
	}
	if len(b.of) < boardsMost {
		return
	}
	for id, board := range b.of {
		if len(b.of) <= boardsMost*3/4 {
			return
		}
		if board.idle(now, 0) {
			delete(b.of, id)
		}
	}
}

// idle tells whether nothing is being got, and nobody has asked for so long.
func (b *board) idle(now time.Time, long time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.getting) == 0 && now.Sub(b.used) >= long
}

// hear takes in what an asker says of members that it found dead. Transfers that wait for bytes by way of a member that it found dead look for
// another way: the asker may be the one that they wait for, and the two would wait for each other for ever.
func (b *board) hear(a Ask, v View, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range a.Dead {
		if name == v.Self().Name || v.Member(name) == nil {
			continue // that is a mistake of the asker, which will find out, or old news
		}
		if b.dead == nil {
			b.dead = map[string]time.Time{}
		}
		b.dead[name] = now.Add(deadTime)
	}
	for _, t := range b.getting {
		t.hear(a.Dead)
	}
}

// deadNow adds the members that askers found dead to names.
func (b *board) deadNow(names Names, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, until := range b.dead {
		if now.Before(until) {
			names[name] = struct{}{}
		} else {
			delete(b.dead, name)
		}
	}
}

// list returns the list that a member of a zone is on. The caller holds the lock.
func (b *board) list(near bool) *askers {
	if near {
		return &b.near
	}
	return &b.far
}

// enter notes a transfer that gets the chunk; the function that is returned takes it out.
func (b *board) enter(t *transfer) (leave func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.getting = append(b.getting, t)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if at := slices.Index(b.getting, t); at >= 0 {
			b.getting = slices.Delete(b.getting, at, at+1)
		}
		b.used = time.Now()
	}
}
