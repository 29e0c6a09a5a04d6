package peer

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// begin finds the first source.
func (x *Body) begin() {
	defer close(x.found)
	x.err = x.connect()
}

// connect finds a source for what is missing.
func (x *Body) connect() error {
	s, err := x.transfer.seek(x.ctx, x.pos.Load(), x.end, false)
	if errors.Is(err, errOwn) {
		return x.connectOrigin()
	}
	if err != nil {
		return err
	}
	x.take(s)
	return nil
}

// connectOrigin asks the registry.
func (x *Body) connectOrigin() error {
	x.transfer.setMoving(1)
	s, err := x.blob.origin(x.ctx, x.pos.Load(), x.end)
	if err != nil {
		return x.withoutOrigin(err)
	}
	x.origin, x.sender, x.reject = s.Body, "", s.Reject
	x.blob.learnSize(s.Size, s.Whole)
	if x.offer(s) {
		return nil
	}
	if s.Size >= 0 {
		x.end = min(x.end, s.Size)
	}
	return x.skip(s)
}

// skip goes to the next byte in what the registry sends. A beginning that is later would put bytes in the wrong place.
func (x *Body) skip(s *Stream) error {
	before := x.pos.Load() - s.Start
	if before < 0 {
		return fmt.Errorf("asked the registry for bytes from %d on, got them from %d on", x.pos.Load(), s.Start)
	}
	_, err := io.CopyN(io.Discard, s.Body, before)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// withoutOrigin gets the bytes from whoever has them when the registry cannot be asked, unless it has refused them.
func (x *Body) withoutOrigin(err error) error {
	x.transfer.setMoving(0)
	if refused, ok := errors.AsType[*RefusedError](err); ok && refused.Final() {
		return err
	}
	s := x.transfer.rescue(x.ctx, x.pos.Load(), x.end)
	if s == nil {
		return err
	}
	x.blob.exchange.metrics.rescues.Inc()
	x.take(s)
	return nil
}

// offer lets the reader have what the registry sends as it is. It reports false when the reader was promised the bytes that
// it asked for, no more.
func (x *Body) offer(s *Stream) bool {
	x.promise.Lock()
	defer x.promise.Unlock()
	if x.promised {
		return false
	}
	x.Start, x.Size, x.Whole, x.offered = s.Start, s.Size, s.Whole, true
	x.pos.Store(s.Start)
	switch {
	case s.Whole:
		x.end = s.Size
	case s.Size >= 0:
		x.end = min(x.end, s.Size)
	}
	return true
}

// take makes a peer the source. What it sends begins at or before the next byte.
func (x *Body) take(s *source) {
	x.blob.learnSize(s.said.size, s.said.whole) // who was asked only if it holds something is the first to tell
	x.src, x.sender = s, s.member.Name
	x.end = min(x.end, s.said.size)
	x.began = time.Time{}
	x.transfer.setMoving(1)
	x.watch = x.blob.exchange.watch(s.member, stallTime, stuckTime, s.cancel)
	if s.member != s.owner {
		end := x.end
		x.complain = time.AfterFunc(x.patience(end), func() { x.look(s, end) })
	}
}

// patience is how long the source may take for what is missing.
func (x *Body) patience(end int64) time.Duration {
	return x.blob.patience(end-x.pos.Load(), x.transfer.complaints())
}

// drop lets go of the source.
func (x *Body) drop() {
	if x.complain != nil {
		x.complain.Stop()
		x.complain = nil
	}
	if x.src != nil {
		x.watch.stop()
		x.src.end()
		x.src = nil
	}
	if x.origin != nil {
		_ = x.origin.Close() // whatever it says, nothing more is read from it
		x.origin = nil
	}
	x.transfer.setMoving(0)
}

// look asks the owner for a faster parent than the one that sends, which goes on meanwhile. Slowness never leads to the registry.
func (x *Body) look(slow *source, end int64) {
	t := x.transfer
	for slow.ctx.Err() == nil && t.complain(slow.member.Name) {
		x.blob.exchange.metrics.complaints.Inc()
		if s, err := t.seek(x.ctx, x.pos.Load(), end, true); err == nil {
			x.propose(s)
			slow.cancel(errSlow) // the reader may be waiting for it
			return
		}
		rest(slow.ctx, x.patience(end))
	}
}

// propose offers the reader a better source.
func (x *Body) propose(s *source) {
	select {
	case x.better <- s:
	default:
		s.end()
	}
	if x.ctx.Err() != nil {
		x.decline() // the reader may have gone before
	}
}

// decline lets go of a source that was proposed.
func (x *Body) decline() {
	select {
	case s := <-x.better:
		s.end()
	default:
	}
}

// Read reads on, from another source when the last one has failed.
func (x *Body) Read(p []byte) (int, error) {
	<-x.found
	if x.err != nil {
		return 0, x.err
	}
	for {
		if x.end >= 0 && x.pos.Load() >= x.end {
			x.complete()
			return 0, io.EOF
		}
		if err := x.ready(); err != nil {
			return 0, err
		}
		n, err := x.receive(p)
		if n > 0 {
			if x.end >= 0 && x.pos.Load() >= x.end {
				x.complete() // who has all of it may not read on
			}
			return n, nil // an error comes again
		}
		if err != nil && x.origin != nil {
			return 0, x.ended(err)
		}
		if err != nil {
			x.moveOn()
		}
	}
}

// moveOn leaves a source that has ended: for a better one, which was why it ended, or for whatever there is.
func (x *Body) moveOn() {
	select {
	case s := <-x.better:
		x.change(s)
	default:
		x.lose()
	}
}

// ready makes sure of a source, and changes to a better one.
func (x *Body) ready() error {
	select {
	case s := <-x.better:
		x.change(s)
	default:
	}
	if x.src == nil && x.origin == nil {
		return x.connect()
	}
	return nil
}

// change goes over to a source whose bytes begin at or before pos.
func (x *Body) change(s *source) {
	skip := x.pos.Load() - s.said.start
	if skip < 0 || x.origin != nil {
		s.end()
		return
	}
	x.drop()
	x.take(s)
	if _, err := io.CopyN(io.Discard, s.said.body, skip); err != nil {
		x.lose()
	}
}

// receive reads from the source.
func (x *Body) receive(p []byte) (int, error) {
	if x.origin != nil {
		n, err := x.origin.Read(p)
		if x.end >= 0 {
			n = int(min(int64(n), x.end-x.pos.Load()))
		}
		x.pos.Add(int64(n))
		return n, err
	}
	n, err := x.src.said.body.Read(p)
	if n > 0 {
		x.watch.heard()
		if x.began.IsZero() {
			x.began, x.beganAt = time.Now(), x.pos.Load()
		}
		x.pos.Add(int64(n))
		x.blob.exchange.metrics.in.Add(float64(n))
	}
	return n, err
}

// ended is the end of a body of the registry. One whose length nobody knew is complete.
func (x *Body) ended(err error) error {
	if errors.Is(err, io.EOF) && (x.end < 0 || x.pos.Load() >= x.end) {
		x.end = x.pos.Load()
		x.complete()
		return io.EOF
	}
	x.drop()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// lose lets go of a peer that has broken off, and does not ask it again for this chunk.
func (x *Body) lose() {
	if x.ctx.Err() == nil {
		x.transfer.bury(x.src.member)
		x.blob.exchange.suspect(x.src.member)
	}
	x.drop()
}

// complete notes that all bytes have come.
func (x *Body) complete() {
	if x.src == nil && x.origin == nil {
		return
	}
	var took time.Duration
	if got := x.pos.Load() - x.beganAt; x.src != nil && got >= x.blob.exchange.chunk/2 {
		took = time.Duration(float64(time.Since(x.began)) * float64(x.blob.exchange.chunk) / float64(got))
	}
	x.blob.finished(x.chunk, x.sender, took)
	x.drop()
}

// Reject tells the source that what it delivered is no good: too little in too much time, or wrong. It is not asked for this
// chunk again.
func (x *Body) Reject() {
	<-x.found
	switch {
	case x.src != nil:
		x.transfer.bury(x.src.member)
	case x.origin != nil && x.reject != nil:
		x.reject()
	}
}

// Moving tells whether bytes are on their way, here or to somebody who is going to send them: 1 here, n to a member n-1
// further, 0 to nobody known.
func (x *Body) Moving() int { return x.transfer.movingAt() }

// Close ends the transfer. What has come is not asked for again when the chunk is opened anew.
func (x *Body) Close() error {
	x.cancel()
	<-x.found
	x.drop()
	x.leave()
	x.decline()
	return nil
}

// complain notes a parent that is slow, and reports whether there is still patience for complaints.
func (t *transfer) complain(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.again++
	if t.again > complaints {
		return false
	}
	if !slices.Contains(t.slow, name) {
		t.slow = append(t.slow, name)
	}
	return true
}

// complaints is how often slowness was complained of.
func (t *transfer) complaints() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.again
}
