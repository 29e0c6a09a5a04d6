package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// smallLimit is the size up to which content is verified whole before its first byte goes out. A client of a manifest
	// or config then gets a status instead of a short body, and 1 MiB arrives in 20 ms at 50 MB/s.
	smallLimit = 1 << 20
	// holdBack is how much of the end of larger content waits for the verdict. One byte would do (protocol rule R-49).
	holdBack = 32 << 10
	// abandonSize, abandonGrace: a fill that nobody reads goes on, unless it is larger than this and less than half done
	// for this long. What it has is kept, so little is lost either way.
	abandonSize  = 256 << 20
	abandonGrace = 30 * time.Second
)

// fillState is the life of a fill.
type fillState uint8

const (
	filling  fillState = iota
	verified           // all bytes are present and have the digest
	failed             // fill.err says why
)

// fill is one download: it knows the blob's size and holds a set of present spans of a sparse partial file. Fetches
// (fetch.go) add spans, readers (blob.go) sleep until theirs are present, a hash follows the front (verify.go).
// It has its own context, so it outlives every reader.
type fill struct {
	cache   *Cache
	request Request
	// suspect: a source delivered wrong bytes for this digest a moment ago, so nothing goes out before the verdict.
	suspect bool
	ctx     context.Context
	cancel  context.CancelFunc
	// resting is what an earlier fill has left, until this one takes it up.
	resting *part
	// done is closed when the fill has left the table.
	done     chan struct{}
	fetching sync.WaitGroup // fetches and hashers
	keeping  sync.WaitGroup // the writer of journals

	mu    sync.Mutex // guards all below; never held across a system call
	state fillState
	err   error // why it failed; set before state
	// over is closed when there is nothing more to fetch: all bytes are present and hashed, or the fill has failed.
	over    chan struct{}
	stopped bool  // over is closed
	left    bool  // it has left the table; nobody attaches any more
	part    *part // nil before there is room for it, and after failure
	length  int64 // the size after failure, for readers that ask again; -1 if it never was known
	opened  bool  // a source has answered, so the content exists
	// sequential: the source has no ranges, so there is one fetch, from the start.
	sequential bool
	hashing    bool // somebody is feeding part.hash
	fetches    []*fetch
	tuner      tuner
	giveUps    int // fetches that gave up since the last progress
	resumed    bool
	latest     *Stream // that a source has opened
	seen       claim   // what was hashed when it failed, for readers that go on without it
	waits      map[*wait]struct{}
	changed    chan struct{} // closed and replaced on each change that a sleeper may care for
	sleepers   int
	readers    int
	// ahead: nobody has asked for the content yet; the one reader there may be is who has started it (ahead.go).
	ahead bool
	// pieces are those that are open (piece.go); they do not count as readers.
	pieces map[*Piece]struct{}
	onDemand
}

// wait is a reader that sleeps until the byte at pos is there; it wants bytes up to end.
type wait struct{ pos, end int64 }

func (c *Cache) newFill(r Request, resting *part) *fill {
	f := &fill{
		length: -1, cache: c, tuner: newTuner(r.Fetches, c.parallel.begin), request: r, resting: resting, suspect: c.suspects.has(r.Digest),
		done: make(chan struct{}), over: make(chan struct{}), changed: make(chan struct{}), waits: make(map[*wait]struct{}),
		pieces: make(map[*Piece]struct{}), onDemand: onDemand{turn: make(chan struct{}, 1)},
	}
	f.ctx, f.cancel = context.WithCancel(c.ctx)
	return f
}

// run is the life of the fill, in its own goroutine.
func (f *fill) run() {
	defer f.cache.fills.Done()
	defer f.cache.running.Add(-1)
	defer f.keeping.Wait()
	defer f.cancel()
	if f.request.Size < 0 || f.request.Size > smallLimit {
		f.keeping.Go(f.keepJournal)
	}
	err := f.download()
	if f.mayRetry(err) {
		f.verdict(err)
		if err = f.restart(); err == nil {
			err = f.download()
		}
	}
	f.conclude(err)
}

// download fetches, hashes and verifies. When it returns, no fetch is running.
func (f *fill) download() error {
	if err := f.prepare(); err != nil {
		return err
	}
	f.mu.Lock()
	f.followLocked()
	f.scheduleLocked()
	f.settleLocked()
	over := f.over
	f.mu.Unlock()
	f.waitUntil(over)
	f.fetching.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil && !f.request.Digest.Matches(f.part.hash) {
		f.err = wrongDigest(f.request.Digest)
		f.wakeLocked() // pieces fail
	}
	return f.err
}

// waitUntil returns when there is nothing more to fetch.
func (f *fill) waitUntil(over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case <-f.turn:
			f.becomeNormal()
		case <-f.ctx.Done():
			f.mu.Lock()
			f.stopLocked(ErrClosed)
			f.mu.Unlock()
			return
		}
	}
}

// verdict tells whoever wants to know what became of content that was complete.
func (f *fill) verdict(err error) {
	f.mu.Lock()
	p := f.part
	f.mu.Unlock()
	if f.request.Verdict == nil || p == nil || !p.whole() || p.hashed < p.size || err != nil && !errors.Is(err, ErrWrongContent) {
		return
	}
	f.request.Verdict(io.NewSectionReader(p.file, 0, p.size), p.size, err == nil)
}

// prepare makes sure of a part, and of room for the whole content.
func (f *fill) prepare() error {
	if f.part == nil {
		return f.takeUp()
	}
	return f.reserve(f.part)
}

// takeUp continues the resting part, or makes a new one. From now on readers see it, so it is never exchanged: they would
// get a mixture.
func (f *fill) takeUp() (err error) {
	p, resumed := f.resting, true
	f.resting = nil
	if p == nil || !f.cache.continuePart(p, f.request.Size, f.suspect) {
		resumed = false
		if p, err = f.cache.newPart(f.request.Digest, f.request.Size, f.booksAtOnce(f.request.Size)); err != nil {
			return err
		}
	}
	err = f.reserve(p) // a resting part has given back what it had no bytes for
	f.mu.Lock()
	defer f.mu.Unlock()
	f.part, f.resumed = p, resumed
	f.wakeLocked() // some of them may have what they want
	return err
}

// mayRetry reports whether the whole content may be asked for once more: the bytes were wrong, none has gone out to a client,
// and one may want them.
func (f *fill) mayRetry(err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Is(err, ErrWrongContent) && f.part != nil && !f.demand && f.heldLocked() && f.ctx.Err() == nil
}

// restart forgets all bytes and the error. Readers stay asleep: they have got nothing so far. The file is emptied because
// what comes now may be shorter, and the journal goes before, because it claims what is emptied.
func (f *fill) restart() error {
	f.latest.reject() // no fetch is running
	p := f.part
	p.journal.mu.Lock() // no journal is written meanwhile
	defer p.journal.mu.Unlock()
	f.cache.dropJournalLocked(p)
	if err := f.cache.disk.truncate(p.file); err != nil {
		return diskError("truncate partial file", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.stopped, f.over = nil, false, make(chan struct{})
	f.opened, f.giveUps = false, 0
	f.suspect = true // pieces have gone out, and no more of them shall
	f.wakeLocked()
	p.empty(f.request.Size)
	return nil
}

// stopLocked ends fetching with an error, the first of which counts.
func (f *fill) stopLocked(err error) {
	if f.stopped {
		return
	}
	f.err, f.stopped = err, true
	close(f.over)
	for _, t := range f.fetches {
		t.cancel()
	}
}

// settleLocked ends fetching when every byte is present and hashed.
func (f *fill) settleLocked() {
	if p := f.part; p != nil && p.whole() && p.hashed == p.size && !f.hashing {
		f.stopLocked(nil)
	}
}

// conclude ends the fill: what is verified is stored, what is wrong is discarded, what is right so far is kept for the
// next fill. Readers of a verified fill get their last bytes before the content is synced and stored.
func (f *fill) conclude(err error) {
	if err == nil {
		f.succeed()
		f.verdict(nil)
		f.cache.suspects.clear(f.request.Digest)
		err = f.commit()
		f.cache.metrics.fillEnded(f.resumed, err)
		return
	}
	f.verdict(err)
	f.cache.metrics.fillEnded(f.resumed, err)
	err = fmt.Errorf("fill %s: %w", f.request.Digest, err)
	if errors.Is(err, ErrWrongContent) {
		f.cache.suspects.add(f.request.Digest)
	}
	f.fail(err)
}

// worthKeeping reports whether the part's bytes are as good as any.
func (f *fill) worthKeeping(err error) bool {
	p := f.part
	if p == nil || p.present.total() == 0 || f.sequential && p.size < 0 {
		return false
	}
	return !errors.Is(err, ErrWrongContent) && !errors.Is(err, ErrDisk)
}

// fail takes the fill out of the table, lets its part rest there if it is worth that, and wakes everybody with the error,
// all in one step: a reader that asks again at once finds the part, and nobody touches it through this fill any more. A
// resting part holds room for the bytes it has, no more.
func (f *fill) fail(err error) {
	p, keep := f.part, f.worthKeeping(err)
	if keep {
		f.giveBack(p)
		p.rested = time.Now()
	}
	f.leave(func(s *shard) {
		if keep {
			s.parts[f.request.Digest] = p
		}
		if p != nil {
			f.length = p.size
			f.rememberLocked(p)
		}
		f.part, f.err, f.state = nil, err, failed
		f.wakeLocked()
	})
	switch {
	case keep:
		f.cache.dropParts(0, 0) // not more of them than allowed
	case p != nil:
		f.cache.discardPart(p)
	}
}

// leave takes the fill out of the table; what is put in its place goes in by the same step. It reports whether readers
// are left.
func (f *fill) leave(replace func(*shard)) (readers bool) {
	defer close(f.done)
	s := f.cache.index.shard(f.request.Digest)
	s.mu.Lock()
	defer s.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(s.fills, f.request.Digest)
	f.left = true
	replace(s)
	return !f.unusedLocked()
}

// succeed lets the readers have the last block; storing comes after.
func (f *fill) succeed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state = verified
	f.wakeLocked()
}

// commit stores verified content. An error is logged here: the readers have their bytes, nobody else would see it.
func (f *fill) commit() error {
	var readers bool
	err := f.cache.store(f.request.Digest, f.part, func(e *entry) bool {
		readers = f.leave(func(s *shard) { f.cache.index.addLocked(s, f.request.Digest, e) })
		return true
	})
	if err != nil {
		f.cache.metrics.notStored(err)
		f.cache.log.Warn("content was delivered but could not be stored", "digest", f.request.Digest, "error", err)
		readers = f.leave(func(*shard) {})
		f.cache.unlinkPart(f.part)
	}
	f.cache.dropJournal(f.part) // nobody waits for this: hits find the content already
	if !readers {
		_ = f.part.file.Close() // synced or not wanted any more; else the last reader closes it
	}
	return err
}

// heldLocked reports whether nothing may go out before the verdict: content is small, suspect, or not yet known to be
// larger than small.
func (f *fill) heldLocked() bool {
	if f.suspect || f.part == nil {
		return true
	}
	if f.part.size >= 0 {
		return f.part.size <= smallLimit
	}
	return f.part.prefix() <= smallLimit
}

// visibleLocked returns how far a reader at pos may go, at most to end. A reader of the whole body does not pass the last
// block before the verdict. Neither does one that comes to the last block when nothing before it is missing: the verdict
// is near then, and it may be resuming a whole body.
func (f *fill) visibleLocked(pos, end int64, whole bool) int64 {
	if f.part == nil || f.state == failed {
		return pos
	}
	to := min(f.part.present.endFrom(pos), end)
	if f.state == verified {
		return to
	}
	if f.heldLocked() {
		return pos
	}
	last := f.part.size - holdBack
	if f.part.size < 0 {
		last = f.part.prefix() - holdBack // where it ends is unknown, so the end is always near
	}
	if to > last && (whole || f.part.prefix() >= pos) {
		return max(pos, min(to, last))
	}
	return to
}

// await returns how far a reader at pos may go, sleeping until it may go further than pos. At the end of the content it
// returns io.EOF, after a failure the fill's error.
func (f *fill) await(pos, end int64, whole bool) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &wait{pos: pos, end: end}
	defer delete(f.waits, w)
	for {
		switch to := f.visibleLocked(pos, end, whole); {
		case to > pos:
			return to, nil
		case f.state == failed:
			return 0, f.err
		case f.state == verified:
			return 0, io.EOF
		}
		if _, ok := f.waits[w]; !ok {
			f.waits[w] = struct{}{}
			f.wantLocked(w)
		}
		f.sleepLocked(nil)
	}
}

// ready sleeps until a status can be sent: the source has answered and the size is known, or so much has come that it is
// not small; for what is held back whole, until the verdict.
func (f *fill) ready(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.state == failed:
			return f.err
		case f.state == verified:
			return nil
		case f.opened && !f.heldLocked():
			return nil
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		f.sleepLocked(ctx.Done())
	}
}

// sleepLocked gives up the lock until something changes or stop is closed.
func (f *fill) sleepLocked(stop <-chan struct{}) {
	changed := f.changed
	f.sleepers++
	f.mu.Unlock()
	select {
	case <-changed:
	case <-stop:
	}
	f.mu.Lock()
	f.sleepers--
}

// wakeLocked lets every sleeper look again.
func (f *fill) wakeLocked() {
	if f.sleepers > 0 {
		close(f.changed)
		f.changed = make(chan struct{})
	}
}

// size returns the content's length, or -1 while it is unknown.
func (f *fill) size() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sizeLocked()
}

func (f *fill) sizeLocked() int64 {
	if f.part == nil {
		return f.length
	}
	return f.part.size
}
