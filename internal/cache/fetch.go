package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

const (
	// stallTimeout is how long a source may deliver nothing. It is below the 10 s after which the impatient versions of
	// CRI-O give up a pull (protocol 4.5).
	stallTimeout = 8 * time.Second
	// dripWindow, dripBytes: a source that delivers less than this in a window counts as broken (protocol table 8.2).
	dripWindow = 30 * time.Second
	dripBytes  = 30 << 10
	// fetchTries is how often in a row a fetch is opened again without a byte of progress.
	fetchTries = 5
	// retryDelay is the pause before the second try without progress; it doubles.
	retryDelay = 200 * time.Millisecond
	// patientTry bounds the count of tries, and so the pause, while the source is busy with another fetch of the fill.
	patientTry = 2
	// readSize is the largest write to the partial file, and the grain of progress that readers see.
	readSize = 256 << 10
)

var errStalled = errors.New("source stalled")

// fetch is one piece of work of a fill: it brings the bytes [pos, limit), by as many requests to the source as that takes.
// Its limit comes nearer when another fetch starts inside it. pos and limit are guarded by fill.mu.
type fetch struct {
	fill   *fill
	ctx    context.Context
	cancel context.CancelFunc
	// front: it works at the first gap, for everybody; the others were started for one reader.
	front      bool
	pos, limit int64
	started    time.Time
	origin     int64 // pos when started
	asked      Span  // the last wish; belongs to run
	// source is the open stream, or nil; booked: there is room for all that the fetch brings. Both are guarded by fill.mu.
	source *Stream
	booked bool
}

// near returns how far ahead of pos the fetch will be in a moment. Waiting that long beats another request. It is more than
// readSize, so no other fetch ever starts inside the bytes that this one is writing: two sources must not write the same
// byte, because only one of them is hashed.
func (t *fetch) near() int64 {
	const least, moment = 2 * readSize, 250 * time.Millisecond
	return max(least, int64(t.rate()*moment.Seconds()))
}

// rate returns how many bytes have come per second so far.
func (t *fetch) rate() float64 {
	elapsed := time.Since(t.started)
	if elapsed <= 0 {
		return 0
	}
	return float64(t.pos-t.origin) / elapsed.Seconds()
}

// takes returns how long n more bytes will take at the rate so far. What has just begun is not judged.
func (t *fetch) takes(n int64) time.Duration {
	if time.Since(t.started) < tuneTime {
		return 0
	}
	return time.Duration(float64(n) / max(1, t.rate()) * float64(time.Second))
}

// run brings the bytes and reports the end of the fetch to the fill.
func (t *fetch) run() {
	f := t.fill
	defer f.fetching.Done()
	defer t.cancel()
	err := f.afford(t)
	if err == nil {
		err = t.bring()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fetchEndedLocked(t, err)
}

// bring opens the source again and again until the fetch has its bytes or there is no hope. Progress resets the count of
// tries, so content that keeps coming is never given up.
func (t *fetch) bring() error {
	for try := 0; ; try++ {
		if t.satisfied() {
			return nil // what it was to bring has become the front's
		}
		before := t.position()
		opened, err := t.stream()
		if err == nil || t.ctx.Err() != nil {
			return nil
		}
		if t.position() > before {
			try = 0
		}
		if t.hopeless(err, opened, try) {
			return err
		}
		if errors.Is(err, ErrBusy) && t.fill.fetchesNow() > 1 {
			try = min(try, patientTry) // there is progress elsewhere, and a place when that ends
		}
		t.fill.interrupted()
		if !pause(t.ctx, try) {
			return nil
		}
	}
}

// hopeless reports whether another try is useless: the content is wrong, the disk is in trouble, the source has refused
// without ever having answered in this fill (it has done its own retries) or takes no request beside the front's, or the tries
// are used up.
func (t *fetch) hopeless(err error, opened bool, try int) bool {
	if errors.Is(err, ErrBusy) && !t.front {
		return true
	}
	if errors.Is(err, ErrNoRange) {
		t.fill.noRange()
		return !t.front || t.asked == Span{0, -1} // the front tries once more, without a range
	}
	if fatal(err) {
		return true
	}
	return !opened && !t.fill.answered() || try >= fetchTries
}

// pause waits before the next try: not at all after progress, then longer each time. It reports whether ctx still lives.
func pause(ctx context.Context, try int) bool {
	if try == 0 {
		return ctx.Err() == nil
	}
	delay := retryDelay << (try - 1)
	timer := time.NewTimer(delay/2 + rand.N(delay))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// stream makes one request to the source and stores what comes. opened says whether the source answered with content.
func (t *fetch) stream() (opened bool, err error) {
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	want, pos := t.want()
	t.asked = want
	s, err := t.fill.request.From(ctx, want)
	if err != nil {
		return false, err
	}
	defer s.Body.Close()
	if err := t.fill.accept(t, s, want); err != nil {
		return false, err
	}
	t.setSource(s)
	defer t.setSource(nil)
	watch := s.watch(func() { cancel(errStalled) })
	defer watch.Stop()
	if err := t.copy(s, pos-s.Start, watch); err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
			err = cause
		}
		if errors.Is(err, errStalled) {
			s.reject()
		}
		return true, err
	}
	return true, nil
}

// want is what the next request asks for, and where the fetch is. A fetch to the end of the content leaves the end open,
// unless it is a chunk; and one of everything is no range at all, which is all that a source without ranges is asked for.
func (t *fetch) want() (want Span, pos int64) {
	t.fill.mu.Lock()
	defer t.fill.mu.Unlock()
	switch {
	case t.fill.sequential && t.front:
		return Span{0, -1}, t.pos
	case t.limit >= t.fill.endLocked() && !t.fill.chunkedLocked() && !t.fill.demand:
		return Span{t.pos, -1}, t.pos
	}
	return Span{t.pos, t.limit}, t.pos
}

func (t *fetch) position() int64 {
	t.fill.mu.Lock()
	defer t.fill.mu.Unlock()
	return t.pos
}

// copy stores the body until the fetch has what it wants. The first skip bytes are present already.
func (t *fetch) copy(s *Stream, skip int64, watch *time.Timer) error {
	if _, err := io.CopyN(io.Discard, watched{s.Body, watch}, skip); err != nil {
		return fmt.Errorf("skip what is present: %w", err)
	}
	buf := t.fill.cache.buffers.Get().(*[]byte)
	defer t.fill.cache.buffers.Put(buf)
	var drip dripMeter
	for !t.satisfied() {
		begin := time.Now()
		n, err := s.receive(*buf, watch)
		slow := drip.slow(n, s.reading(begin))
		if n > 0 {
			if whole, err := t.store((*buf)[:n]); err != nil || !whole {
				return err
			}
		}
		if err == io.EOF { //nolint:errorlint // one that is wrapped is a body that broke off
			return t.ended(s)
		}
		if err != nil {
			return err
		}
		if slow {
			return errStalled
		}
	}
	return nil
}

// watched resets the watch on each read that brings something.
type watched struct {
	io.Reader
	watch *time.Timer
}

func (r watched) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if n > 0 {
		r.watch.Reset(stallTimeout)
	}
	return n, err
}

// dripMeter notices a source that delivers, but next to nothing. Only the time that is spent on reading counts: a slow disk
// or client is not the source's fault.
type dripMeter struct {
	spent time.Duration
	bytes int
}

// slow takes in a read that brought n bytes, and reports whether the source is too slow.
func (m *dripMeter) slow(n int, took time.Duration) bool {
	m.bytes += n
	m.spent += took
	if m.bytes >= dripBytes {
		*m = dripMeter{}
		return false
	}
	return m.spent > dripWindow
}

// setSource notes the stream that is open, or nil when none is.
func (t *fetch) setSource(s *Stream) {
	t.fill.mu.Lock()
	defer t.fill.mu.Unlock()
	t.source = s
}

// satisfied reports whether the fetch has what it wants.
func (t *fetch) satisfied() bool {
	f := t.fill
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stopped || t.pos >= t.limit
}

// store writes the next bytes to the partial file, makes them visible, and hashes them if they are next to be hashed:
// they are in the processor's cache now. Bytes beyond the limit belong to another fetch and are dropped; whole reports
// that none were. After a drop the stream must not be read on: the limit may be further away again by then (widenLocked),
// and the bytes that come next are not those at pos.
func (t *fetch) store(b []byte) (whole bool, err error) {
	f := t.fill
	f.mu.Lock()
	pos, p := t.pos, f.part
	got := len(b)
	b = b[:min(int64(got), t.limit-pos)]
	end := pos + int64(len(b))
	growing := p.size < 0 && !t.booked
	f.mu.Unlock()
	if growing {
		if err := f.grow(end); err != nil {
			return false, err
		}
	}
	if err := f.cache.write(p, b, pos); err != nil {
		return false, diskError("write partial file", err)
	}
	f.mu.Lock()
	p.present.add(Span{pos, end})
	t.pos = end
	f.giveUps = 0
	if f.request.Chunk == 0 && f.tuner.add(end-pos, len(f.fetches), time.Now()) {
		f.scheduleLocked()
	}
	mine := f.claimHashLocked(pos)
	f.wakeLocked()
	f.mu.Unlock()
	if mine {
		f.hashInline(b)
	}
	return len(b) == got, nil
}

// ended judges a body that ended without an error. With the size known it must have brought everything up to the limit;
// otherwise the size is known now.
func (t *fetch) ended(s *Stream) error {
	f := t.fill
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.pos >= t.limit {
		return nil // all of a chunk, say, which tells nothing of what is behind it
	}
	if f.part.size >= 0 || t.pos < f.part.present.end() {
		return io.ErrUnexpectedEOF
	}
	f.part.size, t.limit = t.pos, t.pos
	f.wakeLocked() // what ends here is complete, and nothing more may come that would say so
	return nil
}

// noRange notes that the source has no ranges. What other fetches have asked for in vain is left to the front.
func (f *fill) noRange() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sequential = true
	for _, t := range f.fetches {
		if !t.front && t.source == nil {
			t.limit = t.pos
		}
	}
	f.widenLocked()
	f.turnLocked() // a piece in the middle comes by only when all before it does
}

// interrupted notes that a source broke off, for the outcome of the fill.
func (f *fill) interrupted() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resumed = true
}

func (f *fill) fetchesNow() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.fetches)
}

func (f *fill) answered() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opened
}

// accept checks what a source announces against what is known, and learns the size from the first answer.
func (f *fill) accept(t *fetch, s *Stream, want Span) error {
	if s.Size < 0 && f.request.Hint > 0 {
		s.Size = f.request.Hint
	}
	f.booking.Lock()
	defer f.booking.Unlock()
	f.mu.Lock()
	size, have := f.part.size, f.part.present.end()
	demand := f.demand && !s.everything(want)
	f.mu.Unlock()
	if size >= 0 && s.Size >= 0 && s.Size != size {
		return wrongSize(size, s.Size)
	}
	if !demand && s.Size >= 0 {
		if err := f.cache.book(f.part, s.Size); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !demand {
		f.normalLocked() // a source without ranges brings everything, asked for or not
	}
	switch {
	case size < 0 && s.Size >= 0 && s.Size < have:
		return wrongSize(have, s.Size)
	case s.Start > want.Start || s.Start < 0:
		return fmt.Errorf("%w: asked for bytes from %d, got them from %d", ErrWrongContent, want.Start, s.Start)
	case s.Start < want.Start && !t.front:
		f.sequential = true
		return ErrNoRange // the front comes by without a second download
	case s.everything(want):
		f.sequential = true
		if s.Whole {
			f.widenLocked() // the rest comes by, and nobody else should ask for it
		}
	}
	if size < 0 && s.Size >= 0 {
		f.part.size = s.Size
		t.limit = min(t.limit, s.Size)
		f.suspect = f.suspect || f.request.Hint > 0 && f.request.Hint != s.Size
	}
	f.latest = s
	if !f.opened {
		f.opened = true
		f.scheduleLocked() // readers may have been waiting for the size to be known
	}
	f.settleLocked()
	f.wakeLocked()
	return nil
}
