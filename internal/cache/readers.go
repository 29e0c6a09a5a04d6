package cache

import (
	"errors"
	"time"
)

// attach adds a reader, unless the fill has left the table or is about to because nobody wanted it.
func (f *fill) attach() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leavingLocked() {
		return false
	}
	f.readers++
	f.askedLocked()
	return true
}

// leavingLocked reports whether the fill has left the table, or is about to because nobody wanted it.
func (f *fill) leavingLocked() bool {
	return f.left || f.stopped && (errors.Is(f.err, ErrAbandoned) || errors.Is(f.err, errRetired))
}

// detach removes a piece, or a reader when that is nil. The fill goes on, with the exceptions that abandonSize and demandIdle
// describe. The last one of a fill that has left the table closes its file.
func (f *fill) detach(piece *Piece) {
	f.mu.Lock()
	if piece == nil {
		f.readers--
	}
	delete(f.pieces, piece)
	p, last := f.part, f.left && f.unusedLocked()
	if f.abandonedLocked() {
		time.AfterFunc(abandonGrace, f.abandon)
	}
	f.restLocked()
	f.mu.Unlock()
	if last && p != nil {
		_ = p.file.Close() // synced, or not stored
	}
}

// unusedLocked reports whether nobody is reading the content, or waiting for it.
func (f *fill) unusedLocked() bool { return f.readers == 0 && len(f.pieces) == 0 }

func (f *fill) abandonedLocked() bool {
	p := f.part
	return f.unusedLocked() && f.state == filling && !f.stopped && !f.demand && p != nil && p.size > f.cache.abandonSize && p.present.total() < p.size/2
}

func (f *fill) abandon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.abandonedLocked() {
		f.stopLocked(ErrAbandoned)
	}
}
