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
	// unableTime is how long a member that could not get a chunk is not asked for it.
	unableTime = 10 * time.Second
)

// chunkID names what is owned: a chunk of a blob.
type chunkID struct {
	digest oci.Digest
	key    int64
}

// board is what a node knows of one chunk: who asked for it here, who could not get it, and which of its own transfers get
// it.
type board struct {
	mu      sync.Mutex
	used    time.Time
	near    askers               // from the own zone
	far     askers               // from the others: nobody is sent across a border for what its own zone has
	unable  map[string]time.Time // have told askers so, and until when that is believed
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

// hear takes in what an asker says of others. Members that told the asker that they cannot get the chunk are not asked for it
// here either. Transfers that wait for bytes by way of a member that the asker found dead look for another way: the asker
// may be the one that they wait for, and the two would wait for each other for ever.
func (b *board) hear(a Ask, sender string, v View, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range a.Unable {
		if name == v.Self().Name || v.Member(name) == nil {
			continue // that is a mistake of the asker, or old news
		}
		if b.unable == nil {
			b.unable = map[string]time.Time{}
		}
		b.unable[name] = now.Add(unableTime)
	}
	for _, t := range b.getting {
		t.hear(a.Dead, sender)
	}
}

// unableNow adds the members that cannot get the chunk to names.
func (b *board) unableNow(names Names, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, until := range b.unable {
		if now.Before(until) {
			names[name] = struct{}{}
		} else {
			delete(b.unable, name)
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
