package cache

import (
	"bytes"
	"context"
	"fmt"
	"hash"
	"io"
	"math"
)

// passage is content on its way from a source to one reader without being stored: there is no room for it, or the disk is
// in trouble. It keeps the promises of a fill: small content is verified before its first byte, the whole of larger
// content before its last block, and so is the end of content that was wrong a moment ago.
type passage struct {
	cache   *Cache
	request Request
	ctx     context.Context
	cancel  context.CancelFunc
	size    int64
	data    []byte    // small content, verified
	body    io.Reader // larger content from its start, until it is used
	intake  *intake   // below body
}

// Pass opens content straight from its source for one reader.
func (c *Cache) Pass(r Request) *Blob {
	return &Blob{digest: r.Digest, tier: TierSource, pass: c.newPassage(r, r.Size)}
}

// newPassage prepares content of size bytes, -1 if unknown, to pass through.
func (c *Cache) newPassage(r Request, size int64) *passage {
	p := &passage{cache: c, request: r, size: size}
	p.ctx, p.cancel = context.WithCancel(c.ctx)
	return p
}

// ready opens the source, which may outlive ctx, and reads small content whole.
func (p *passage) ready(ctx context.Context) error {
	if p.body != nil || p.data != nil {
		return nil
	}
	stop := context.AfterFunc(ctx, p.cancel)
	defer stop()
	err := p.start()
	if err != nil && ctx.Err() != nil && ctx != p.ctx {
		return context.Cause(ctx)
	}
	return p.explain(err)
}

// explain wraps an error; when the cache is closing, that is the reason for it.
func (p *passage) explain(err error) error {
	if err == nil {
		return nil
	}
	if p.cache.ctx.Err() != nil {
		err = ErrClosed
	}
	return fmt.Errorf("pass %s through: %w", p.request.Digest, err)
}

// start opens the source at the start of the content. What may be small is read until that is known.
func (p *passage) start() error {
	in, err := p.open(Span{0, -1})
	if err != nil {
		return err
	}
	p.intake, p.body = in, in
	if p.size > smallLimit {
		p.body = io.LimitReader(in, p.size)
		return nil
	}
	head, err := io.ReadAll(io.LimitReader(in, smallLimit+1))
	if err != nil {
		p.drop()
		return err
	}
	if len(head) > smallLimit && p.size < 0 {
		p.body = io.MultiReader(bytes.NewReader(head), in)
		return nil
	}
	p.drop()
	if !p.request.Digest.Verifies(head) {
		p.cache.suspects.add(p.request.Digest)
		return wrongDigest(p.request.Digest)
	}
	p.data, p.size = head, int64(len(head))
	return nil
}

// write sends [off, off+n), after ready.
func (p *passage) write(w io.Writer, off, n int64) (int64, error) {
	if p.data != nil { // whoever has Ready called gets it from Bytes; a reader that takes a detour gets it here
		written, err := w.Write(p.data[off:min(off+n, p.size)])
		return int64(written), err
	}
	toEnd := p.size >= 0 && off+n == p.size || n == math.MaxInt64-off
	var written int64
	var err error
	if toEnd && (off == 0 || p.cache.suspects.has(p.request.Digest)) {
		written, err = p.writeVerified(w, off)
	} else {
		written, err = p.writeRange(w, off, n, toEnd)
	}
	if err != nil {
		return written, p.explain(err)
	}
	return written, flush(w)
}

// writeRange sends bytes as they come. Whoever asks for a part of the content verifies what it assembles.
func (p *passage) writeRange(w io.Writer, off, n int64, toEnd bool) (int64, error) {
	want := Span{off, off + n}
	if toEnd {
		want.End = -1
	}
	in, err := p.open(want)
	if err != nil {
		return 0, err
	}
	defer in.close()
	written, err := io.Copy(w, io.LimitReader(in, n))
	if err == nil && written < n && n != math.MaxInt64-off {
		err = io.ErrUnexpectedEOF
	}
	return written, err
}

// writeVerified reads everything and sends it from off on.
func (p *passage) writeVerified(w io.Writer, off int64) (int64, error) {
	defer p.drop()
	return p.relay(w, p.request.Digest.Hash(), 0, off)
}

// writeRest sends everything from pos on to a reader who has got what comes before, which h has seen.
func (p *passage) writeRest(w io.Writer, h hash.Hash, pos int64) (int64, error) {
	defer p.drop()
	in, err := p.open(Span{pos, -1})
	if err != nil {
		return 0, p.explain(err)
	}
	p.intake, p.body = in, in
	if p.size >= 0 {
		p.body = io.LimitReader(in, p.size-pos)
	}
	written, err := p.relay(w, h, pos, pos)
	if err != nil {
		return written, p.explain(err)
	}
	return written, flush(w)
}

// relay reads the body, whose first byte is the one at pos, and sends it from off on, always a block behind what it has
// hashed. The hash has seen what comes before.
func (p *passage) relay(w io.Writer, h hash.Hash, pos, off int64) (written int64, err error) {
	held, next := make([]byte, 0, holdBack), make([]byte, holdBack)
	send := func() error { // pos is the place of the first byte of held
		skip := min(max(0, off-pos), int64(len(held)))
		sent, err := w.Write(held[skip:])
		written += int64(sent)
		pos += int64(len(held))
		return err
	}
	for err == nil {
		var n int
		if n, err = io.ReadFull(p.body, next); n == 0 {
			break
		}
		_, _ = h.Write(next[:n]) // a hash never returns an error
		if err := send(); err != nil {
			return written, err
		}
		held = append(held[:0], next[:n]...)
	}
	// The intake tells a body that broke off by an error of its own; these two mean that everything has come.
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		return written, err
	}
	if !p.request.Digest.Matches(h) {
		p.cache.suspects.add(p.request.Digest)
		return written, wrongDigest(p.request.Digest)
	}
	return written, send()
}

// drop closes the body that ready has opened.
func (p *passage) drop() {
	if p.intake != nil {
		p.intake.close()
	}
	p.intake, p.body = nil, nil
}

func (p *passage) close() {
	p.cancel()
	p.drop()
}
