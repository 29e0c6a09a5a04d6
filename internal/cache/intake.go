package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// errBrokenOff is how an intake reports a body that ended too early: io.ErrUnexpectedEOF is what io.ReadFull makes of a
// short last block.
var errBrokenOff = errors.New("content broke off")

// intake reads one span of content from its source, by as many requests as that takes.
type intake struct {
	passage *passage
	pos     int64
	end     int64 // -1: up to the end of the content
	tries   int   // in a row without a byte

	stream *Stream
	ctx    context.Context
	cancel context.CancelCauseFunc
	watch  *time.Timer
	drip   dripMeter
}

// open opens the source for a wish, and learns the size of the content if it is not known.
func (p *passage) open(want Span) (*intake, error) {
	in := &intake{passage: p, pos: want.Start, end: want.End}
	if err := in.connect(); err != nil {
		return nil, err
	}
	if p.size < 0 {
		p.size = in.stream.Size
	}
	return in, nil
}

// connect opens the source at pos.
func (in *intake) connect() error {
	p := in.passage
	in.ctx, in.cancel = context.WithCancelCause(p.ctx)
	s, err := p.request.From(in.ctx, Span{in.pos, in.end})
	if errors.Is(err, ErrNoRange) {
		s, err = p.request.From(in.ctx, Span{0, -1})
	}
	if err != nil {
		in.cancel(nil)
		return err
	}
	in.stream, in.drip = s, dripMeter{}
	in.watch = time.AfterFunc(stallTimeout, func() { in.cancel(errStalled) })
	if err = in.check(); err == nil {
		_, err = io.CopyN(io.Discard, watched{s.Body, in.watch}, in.pos-s.Start)
	}
	in.watch.Stop()
	if err != nil {
		in.close()
	}
	return err
}

// check compares what the source announces with what is known.
func (in *intake) check() error {
	s := in.stream
	if size := in.passage.size; size >= 0 && s.Size >= 0 && s.Size != size {
		return wrongSize(size, s.Size)
	}
	if s.Start < 0 || s.Start > in.pos {
		return fmt.Errorf("%w: asked for bytes from %d, got them from %d", ErrWrongContent, in.pos, s.Start)
	}
	return nil
}

// Read reads on, from another request if the source has broken off.
func (in *intake) Read(b []byte) (int, error) {
	for {
		n, err := in.receive(b)
		if n > 0 {
			in.tries = 0
			return n, nil // an error comes again
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF) && in.complete():
			return 0, io.EOF
		}
		if err = in.again(err); err != nil {
			return 0, err
		}
	}
}

// receive reads on in the open stream.
func (in *intake) receive(b []byte) (n int, err error) {
	begin := time.Now()
	n, err = in.stream.receive(b, in.watch)
	in.pos += int64(n)
	if in.drip.slow(n, time.Since(begin)) {
		in.cancel(errStalled) // the next read fails
	}
	return n, err
}

// complete reports whether an end of the body at pos is the end that was wanted.
func (in *intake) complete() bool {
	end := in.end
	if end < 0 {
		end = in.passage.size
	}
	return end < 0 || in.pos >= end
}

// again opens the source anew after an error, unless it is hopeless.
func (in *intake) again(err error) error {
	for {
		if cause := context.Cause(in.ctx); errors.Is(cause, errStalled) {
			err = cause
			in.stream.reject()
		}
		in.close()
		if errors.Is(err, ErrWrongContent) || in.tries >= fetchTries || !pause(in.passage.ctx, in.tries) {
			return fmt.Errorf("%w after %d bytes: %w", errBrokenOff, in.pos, err)
		}
		in.tries++
		if err = in.connect(); err == nil {
			return nil
		}
	}
}

func (in *intake) close() {
	in.watch.Stop()
	in.cancel(nil)
	_ = in.stream.Body.Close() // whatever it says, nothing more is read from it
}
