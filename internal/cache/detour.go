package cache

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"slices"
)

// What a reader does whose fill gives up while the reader has part of the content already. A client that is cut short
// begins a new request, and most begin a new pull with it, so whoever can go on does:
//
//   - When the store is at fault (full or failing), the rest comes straight from the source (detour).
//   - When the source is, and it was another's (the reader has joined a fill of another repository), the reader's own
//     source continues what is there in a new fill (rejoin).
//
// Neither may ever join two contents that differ. A detour hashes what the file has up to the reader's place, and then what
// comes; a rejoining reader goes on only in the very file that it has been reading.

// Fallback names another way to the content of a blob that grows: should its fill break off with an error that mine accepts,
// which is one that says nothing about r's own source, the reader goes on with a fill from r. It is used once.
func (b *Blob) Fallback(r Request, mine func(error) bool) {
	if b.fill != nil {
		b.own, b.mine = &r, mine
	}
}

// rejoin exchanges the fill that has failed for one from the reader's own source, or for what another fill has stored
// meanwhile. It reports whether there is something to go on with; who has sent bytes has to see by same whether it is
// their continuation.
func (b *Blob) rejoin(err error) bool {
	if b.mine == nil || b.shared || errors.Is(err, ErrWrongContent) || !b.mine(err) {
		return false
	}
	r := *b.own
	b.mine = nil
	next, _, err := b.fill.cache.Fill(r)
	if err != nil {
		return false
	}
	b.fill.detach(nil)
	b.fill, b.begun, b.file, b.data, b.size = next.fill, b.file, next.file, next.data, next.size
	return true
}

// errOther: the content was begun anew since the reader's fill broke off, so what the reader has sent may be of another.
var errOther = errors.New("content was fetched anew after its source broke off")

// same fails unless the open file is the one that the reader began with, if it began. The old one stays open until then,
// so that no other file can have got its number.
func (b *Blob) same() error {
	if b.begun == nil {
		return nil
	}
	defer b.leaveBegun()
	if b.file == nil {
		return errOther
	}
	was, err1 := b.begun.Stat()
	is, err2 := b.file.Stat()
	if err := errors.Join(err1, err2); err != nil {
		return diskError("look at content", err)
	}
	if !os.SameFile(was, is) {
		return errOther
	}
	return nil
}

// leaveBegun closes the file that was read before a rejoin.
func (b *Blob) leaveBegun() {
	if b.begun != nil {
		_ = b.begun.Close() // it was only read
		b.begun = nil
	}
}

// storeTrouble reports whether an error is about keeping content, not about getting it.
func storeTrouble(err error) bool { return errors.Is(err, ErrNoRoom) || errors.Is(err, ErrDisk) }

// detour writes [pos, end) straight from the source, after the fill has failed for want of room or of a working disk. The
// reader of a whole body that has sent something gets its last block only if all that was sent has the digest.
func (b *Blob) detour(w io.Writer, pos, end int64, whole bool, cause error) (int64, error) {
	if b.file == nil && whole && pos > 0 {
		return 0, cause // it was sent from a file that is gone
	}
	f := b.fill
	request := f.request
	if b.own != nil {
		request = *b.own
	}
	f.cache.complain.Do(func() {
		f.cache.log.Warn("content cannot be stored; its readers get the rest straight from the upstream: look after the disk of the data directory",
			"digest", b.digest, "error", cause)
	})
	b.pass = f.cache.newPassage(request, f.size())
	if b.file != nil && whole {
		return b.detourWhole(w, pos)
	}
	if b.file != nil {
		return b.pass.writeRange(w, pos, end-pos, end == b.pass.size || end == math.MaxInt64)
	}
	if err := b.pass.ready(b.pass.ctx); err != nil {
		return 0, err
	}
	return b.pass.write(w, pos, end-pos)
}

// detourWhole writes from pos on, of which everything before was sent from the partial file.
func (b *Blob) detourWhole(w io.Writer, pos int64) (int64, error) {
	h, err := b.fill.hashUpTo(b.file, pos)
	if err != nil {
		return 0, b.pass.explain(err)
	}
	return b.pass.writeRest(w, h, pos)
}

// hashUpTo returns a hash that has seen the first pos bytes of a partial file. What the failed fill has hashed of them is
// not read again.
func (f *fill) hashUpTo(file *os.File, pos int64) (hash.Hash, error) {
	f.mu.Lock()
	seen := f.seen
	f.mu.Unlock()
	if seen.hashed > pos {
		seen.hashed, seen.state = 0, nil
	}
	h, err := seen.hash()
	if err != nil {
		return nil, fmt.Errorf("continue hash: %w", err)
	}
	buf := f.cache.buffers.Get().(*[]byte)
	defer f.cache.buffers.Put(buf)
	for off := seen.hashed; off < pos; {
		b := (*buf)[:min(int64(len(*buf)), pos-off)]
		if err := f.cache.disk.readAt(file, b, off); err != nil {
			return nil, diskError("read partial file", err)
		}
		_, _ = h.Write(b) // a hash never returns an error
		off += int64(len(b))
	}
	return h, nil
}

// rememberLocked keeps what the part has hashed, for readers that go on without it.
func (f *fill) rememberLocked(p *part) {
	f.seen = claim{digest: f.request.Digest, hashed: p.hashed, state: slices.Clone(p.state)}
}
