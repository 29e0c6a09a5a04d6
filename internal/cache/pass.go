package cache

import (
	"context"
	"fmt"
	"io"
)

// passage is content on its way from a source to one reader without being stored: there is no room for it, or the disk is
// in trouble. It keeps the promises of a fill: small content is verified before its first byte, the whole of larger
// content before its last block.
type passage struct {
	request Request
	ctx     context.Context
	cancel  context.CancelFunc
	stream  *Stream // opened by ready, from the start
	size    int64
	data    []byte // small content, verified
}

// Pass opens content straight from its source for one reader.
func (c *Cache) Pass(r Request) *Blob {
	p := &passage{request: r, size: r.Size}
	p.ctx, p.cancel = context.WithCancel(c.ctx)
	return &Blob{digest: r.Digest, tier: TierSource, pass: p}
}

// ready opens the source, which may outlive ctx, and reads small content whole.
func (p *passage) ready(ctx context.Context) error {
	if p.stream != nil || p.data != nil {
		return nil
	}
	stop := context.AfterFunc(ctx, p.cancel)
	defer stop()
	stream, err := p.open(Span{0, -1})
	if err != nil {
		return err
	}
	p.stream, p.size = stream, stream.Size
	if p.size < 0 || p.size > smallLimit {
		return nil
	}
	data := make([]byte, p.size)
	if _, err := io.ReadFull(stream.Body, data); err != nil {
		return fmt.Errorf("pass %s through: %w", p.request.Digest, err)
	}
	if !p.request.Digest.Verifies(data) {
		return fmt.Errorf("pass content through: %w", wrongDigest(p.request.Digest))
	}
	p.data = data
	return nil
}

func (p *passage) open(want Span) (*Stream, error) {
	s, err := p.request.From(p.ctx, want)
	if err != nil {
		return nil, err
	}
	if p.request.Size >= 0 && s.Size >= 0 && s.Size != p.request.Size {
		_ = s.Body.Close() // the error below says more
		return nil, wrongSize(p.request.Size, s.Size)
	}
	return s, nil
}

// write sends [off, off+n).
func (p *passage) write(w io.Writer, off, n int64) (int64, error) {
	if off == 0 && (p.size < 0 || n == p.size) && p.stream != nil {
		return p.writeWhole(w)
	}
	s, err := p.open(Span{off, off + n})
	if err != nil {
		return 0, err
	}
	defer s.Body.Close()
	if _, err := io.CopyN(io.Discard, s.Body, off-s.Start); err != nil {
		return 0, fmt.Errorf("pass content through: %w", err)
	}
	written, err := io.CopyN(w, s.Body, n)
	if err != nil {
		return written, fmt.Errorf("pass content through: %w", err)
	}
	return written, flush(w)
}

// writeWhole sends everything, always a block behind what it has hashed.
func (p *passage) writeWhole(w io.Writer) (written int64, err error) {
	h := p.request.Digest.Hash()
	held, next := make([]byte, 0, holdBack), make([]byte, holdBack)
	for {
		n, err := io.ReadFull(p.stream.Body, next)
		if n > 0 {
			_, _ = h.Write(next[:n]) // a hash never returns an error
			sent, err := w.Write(held)
			written += int64(sent)
			if err != nil {
				return written, err
			}
			held = append(held[:0], next[:n]...)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF && p.complete(written+int64(len(held))) {
			break
		}
		if err != nil {
			return written, fmt.Errorf("pass content through: %w", err)
		}
	}
	if !p.request.Digest.Matches(h) {
		return written, fmt.Errorf("pass content through: %w", wrongDigest(p.request.Digest))
	}
	sent, err := w.Write(held)
	written += int64(sent)
	if err != nil {
		return written, err
	}
	return written, flush(w)
}

// complete tells the short last block of everything from a body that broke off: io.ReadFull reports both alike.
func (p *passage) complete(got int64) bool { return p.size < 0 || got == p.size }

func (p *passage) close() {
	p.cancel()
	if p.stream != nil {
		_ = p.stream.Body.Close() // whatever it says, the content is not wanted any more
	}
}
