package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"mirror/internal/oci"
)

// Piece is a span of content that another node has asked for: complete, arriving, or still to be fetched. Its bytes go out as
// soon as all of them are here, which may be long before the whole content is verified. So whoever gets them verifies the whole
// content itself; clients get a Blob.
//
// Wait, WriteTo, WriteRange and Close are used by one goroutine at a time; the others may be called from any until Close.
type Piece struct {
	blob *Blob
	span Span // as asked for, with an end; without what lies beyond the content's once that is held
	// held: Wait has seen all bytes of it. Guarded by the fill's lock, like span.
	held bool
	// refused is why its bytes do not come to a fill on demand; guarded by the fill's lock.
	refused error
}

// Piece opens a span of content, up to its end if span.End is -1. Content that is neither stored nor being filled is taken up
// by a fill on demand, which fetches the chunks that pieces are in and nothing else, until a client opens the content. A fill
// that is running fetches the chunk of a piece before those that nobody waits for, and beyond r.Fetches if need be; how many
// pieces are open at once is for the caller to bound. Nothing is waited for here.
//
// It fails with ErrNoSpan when the content has no such bytes, and with ErrSuspect when content is being filled of which wrong
// bytes came a moment ago; and as the fill does that it meets, when that has just failed. r.Chunk must be set.
func (c *Cache) Piece(r Request, span Span) (*Piece, error) {
	p, err := newPiece(r, span)
	if err != nil {
		return nil, err
	}
	for p.blob == nil {
		blob, err := c.open(r.Digest, p.attach)
		if errors.Is(err, ErrNotFound) {
			blob, err = c.startOnDemand(r, p)
		}
		if err != nil {
			return nil, fmt.Errorf("open piece of %s: %w", r.Digest, err)
		}
		p.blob = blob // nil when a fill has begun since we looked
	}
	p.blob.piece = p
	if err := p.check(); err != nil {
		_ = p.Close() // nothing was read from it
		return nil, fmt.Errorf("open piece of %s: %w", r.Digest, err)
	}
	return p, nil
}

func newPiece(r Request, span Span) (*Piece, error) {
	if span.End < 0 {
		span.End = math.MaxInt64
	}
	switch {
	case r.Chunk <= 0:
		return nil, errors.New("BUG: piece of a request without chunks")
	case span.Start < 0 || span.Start > span.End || span.Start > math.MaxInt64-r.Chunk:
		return nil, ErrNoSpan
	}
	return &Piece{span: span}, nil
}

// startOnDemand starts a fill for a piece.
func (c *Cache) startOnDemand(r Request, p *Piece) (*Blob, error) {
	if c.suspects.has(r.Digest) {
		return nil, ErrSuspect
	}
	return c.start(r, func(f *fill) {
		f.demand = true
		f.pieces[p] = struct{}{}
	})
}

// attach adds the piece to a fill, unless that is about to leave the table.
func (p *Piece) attach(f *fill) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leavingLocked() {
		return false
	}
	f.pieces[p] = struct{}{}
	f.scheduleLocked()
	return true
}

// check fails when the piece can never be delivered, as far as known now.
func (p *Piece) check() error {
	f := p.blob.fill
	if f == nil {
		return p.within(p.blob.size)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.deniedLocked(p)
}

// within fails when content of the given size, -1 if unknown, has no bytes of the piece. Empty content has an empty piece.
func (p *Piece) within(size int64) error {
	if size >= 0 && p.span.Start >= size && p.span.Start > 0 {
		return fmt.Errorf("%w: from %d on, of %d", ErrNoSpan, p.span.Start, size)
	}
	return nil
}

// deniedLocked returns why a piece is not delivered, or nil if it is or may still be.
func (f *fill) deniedLocked(p *Piece) error {
	switch {
	case f.state == verified:
	case f.err != nil:
		return f.err // also before the state says so: the bytes may be wrong
	case f.suspect:
		return ErrSuspect
	case p.refused != nil:
		return p.refused
	}
	if f.part == nil {
		return nil
	}
	return p.within(f.part.size)
}

// lacksLocked returns the first byte of a piece that is not here.
func (f *fill) lacksLocked(p *Piece) (at int64, lacks bool) {
	if f.part == nil {
		return p.span.Start, true
	}
	at = f.part.present.endFrom(p.span.Start)
	return at, at < min(p.span.End, f.endLocked())
}

// Wait waits until all bytes of the piece are here. Once it has returned nil they can be written, also when the fill ends, and
// Span stays as it is; but while content that was wrong is fetched anew, writing fails. It returns the fill's error when that
// fails, ErrNoRoom or ErrDisk among them, or what the source refused this chunk with; or the context's cause.
func (p *Piece) Wait(ctx context.Context) error {
	if p.blob.fill == nil || p.blob.file != nil {
		return nil
	}
	if err := p.blob.fill.awaitPiece(ctx, p); err != nil {
		return fmt.Errorf("wait for piece: %w", err)
	}
	return p.blob.openGrowing()
}

// awaitPiece sleeps until a piece is here, or will not be delivered.
func (f *fill) awaitPiece(ctx context.Context, p *Piece) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if err := f.deniedLocked(p); err != nil {
			return err
		}
		if _, lacks := f.lacksLocked(p); !lacks {
			p.span.End, p.held = min(p.span.End, f.endLocked()), true
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f.sleepLocked(ctx.Done())
	}
}

// Held reports whether the bytes of the piece are here, and may be written at once.
func (p *Piece) Held() bool {
	f := p.blob.fill
	if f == nil {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, lacks := f.lacksLocked(p)
	return !lacks && f.deniedLocked(p) == nil
}

// Moving reports whether bytes that the piece lacks are on their way from the source now: a fetch is at work in their chunk, and
// its source delivers (Stream.Moving). It is false when the piece is held.
func (p *Piece) Moving() bool {
	source := p.source()
	return source != nil && (source.Moving == nil || source.Moving())
}

// source returns the open source of what the piece lacks first, or nil.
func (p *Piece) source() *Stream {
	f := p.blob.fill
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at, lacks := f.lacksLocked(p)
	if !lacks {
		return nil
	}
	if owner := f.ownerLocked(at); owner != nil {
		return owner.source
	}
	return nil
}

// Size returns the length of the whole content in bytes, or -1 while it is unknown.
func (p *Piece) Size() int64 { return p.blob.Size() }

// Span returns the bytes of the piece: those asked for, without what lies beyond the end of the content. Until the size is
// known the end is what was asked for, or the largest number.
func (p *Piece) Span() Span {
	f := p.blob.fill
	if f == nil {
		return Span{p.span.Start, min(p.span.End, p.blob.size)}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if size := f.sizeLocked(); size >= 0 && !p.held {
		return Span{p.span.Start, min(p.span.End, size)}
	}
	return p.span
}

// WriteTo writes the piece to w, after Wait for as long as that takes. The writer is used as in Blob.WriteRange.
func (p *Piece) WriteTo(w io.Writer) (int64, error) {
	if err := p.Wait(context.Background()); err != nil {
		return 0, err
	}
	span := p.Span()
	return p.WriteRange(w, span.Start, span.Len())
}

// WriteRange writes the bytes [off, off+n) of the content, which lie in the piece, like WriteTo.
func (p *Piece) WriteRange(w io.Writer, off, n int64) (int64, error) {
	if err := p.Wait(context.Background()); err != nil {
		return 0, err
	}
	if span := p.Span(); off < span.Start || n < 0 || n > span.End-off {
		return 0, errBeyondEnd
	}
	if p.blob.fill == nil {
		return p.blob.WriteRange(w, off, n)
	}
	return p.blob.send(w, off, n)
}

// Close ends the use of the piece. What is being fetched for it goes on for some seconds. Closing twice is harmless.
func (p *Piece) Close() error { return p.blob.Close() }

// Suspect reports whether wrong bytes of content came a moment ago: no piece of it is opened, and whoever fills it should ask
// the source that is trusted most.
func (c *Cache) Suspect(d oci.Digest) bool { return c.suspects.has(d) }

// Held reports whether a span of content is here, complete content or not, and returns the size of the content, -1 if that is
// not known. An end of -1 means up to the end of the content. Nothing is started for it, and it does not count as a use.
func (c *Cache) Held(d oci.Digest, span Span) (size int64, ok bool) {
	s := c.index.shard(d)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.entryLocked(d); e != nil {
		return e.size, span.in(spans{{0, e.size}}, e.size)
	}
	if f := s.fills[d]; f != nil {
		return f.holds(span)
	}
	p := s.parts[d]
	if p == nil || c.suspects.has(d) {
		return -1, false
	}
	return p.size, span.in(p.present, p.size)
}

// holds is Cache.Held for content that is being filled.
func (f *fill) holds(span Span) (size int64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch p := f.part; {
	case p == nil:
		return f.length, false
	case f.state != verified && (f.suspect || f.err != nil):
		return p.size, false
	default:
		return p.size, span.in(p.present, p.size)
	}
}

// in reports whether all bytes of the span are among the present ones, of content of the given size, -1 if unknown. What lies
// beyond the end counts as nothing, but the span must not begin there.
func (s Span) in(present spans, size int64) bool {
	end := s.End
	if end < 0 {
		end = math.MaxInt64
	}
	if size >= 0 {
		end = min(end, size)
	}
	empty := size == 0 && s.Start == 0
	return empty || 0 <= s.Start && s.Start < end && present.endFrom(s.Start) >= end
}
