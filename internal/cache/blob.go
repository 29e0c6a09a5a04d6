package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"

	"mirror/internal/oci"
)

// Tier says where the bytes of an open blob are.
type Tier uint8

// The tiers. TierSource means that the bytes are still arriving, or pass through without being stored.
const (
	TierMemory Tier = iota
	TierDisk
	TierSource
)

// Blob is an open blob in one of four states: in memory, complete on disk, growing while a fill runs, or passing through.
// It is used by one goroutine at a time, and closed by it. Whatever happens to the cache meanwhile, eviction and removal
// included, an open blob delivers its bytes.
type Blob struct {
	digest oci.Digest
	tier   Tier
	data   []byte   // in memory; a small blob that was read from disk is here too
	file   *os.File // complete on disk, or the partial file of fill once it was needed
	shared bool     // file is the fill's own, which closes it
	size   int64    // of complete content
	shelf  *shelf   // where the file goes at the end, as that of entry; nil if it is closed
	entry  *entry
	fill   *fill
	piece  *Piece // it is read for a piece, not for a client
	pass   *passage
	// own and mine are what Fallback was given; begun is the file that was read before a rejoin.
	own    *Request
	mine   func(error) bool
	begun  *os.File
	closed bool
}

// Digest names the content.
func (b *Blob) Digest() oci.Digest { return b.digest }

// Tier says where the bytes were when the blob was opened.
func (b *Blob) Tier() Tier { return b.tier }

// Ready waits until a status can be sent for the blob: until the source of a growing blob has answered with a size, or,
// for one that is held back whole, until it is verified. It returns the fill's error, or the context's cause.
func (b *Blob) Ready(ctx context.Context) error {
	switch {
	case b.fill != nil:
		return b.fill.ready(ctx)
	case b.pass != nil:
		return b.pass.ready(ctx)
	}
	return nil
}

// Size returns the length in bytes, or -1 when the source did not tell it and the fill is not over. After Ready it
// changes at most from -1 to the length.
func (b *Blob) Size() int64 {
	switch {
	case b.fill != nil:
		return b.fill.size()
	case b.pass != nil:
		return b.pass.size
	}
	return b.size
}

// Bytes returns the whole content when it is in memory, else nil. The slice is shared: never write to it.
func (b *Blob) Bytes() []byte {
	if b.pass != nil {
		return b.pass.data
	}
	return b.data
}

// WriteRange writes the bytes [off, off+n) to w, waiting for those that are still arriving; n < 0 means up to the end.
// It returns how many it wrote, and an error when they are fewer than asked for.
//
// A writer with the method SendFile (fileSender) gets the bytes of files by that, and one with the method Flush gets each piece as soon as
// it is there. A reader of everything does not get the last block before the digest is verified.
func (b *Blob) WriteRange(w io.Writer, off, n int64) (int64, error) {
	if b.pass != nil {
		if err := b.pass.ready(b.pass.ctx); err != nil {
			return 0, err
		}
	}
	if off < 0 {
		return 0, errBeyondEnd
	}
	size := b.Size()
	most := math.MaxInt64 - off
	if size >= 0 {
		most = size - off
	}
	if n < 0 {
		n = most
	}
	if most < 0 || n > most {
		return 0, errBeyondEnd
	}
	switch {
	case b.Bytes() != nil:
		written, err := w.Write(b.Bytes()[off : off+n])
		return int64(written), err
	case b.fill != nil:
		return b.follow(w, off, off+n)
	case b.pass != nil:
		return b.pass.write(w, off, n)
	case n == 0:
		return 0, nil
	}
	return sendFile(w, b.file, off, n)
}

// follow writes [off, end) of a growing blob. An end beyond everything means up to the end of the content, which is not
// known yet.
func (b *Blob) follow(w io.Writer, off, end int64) (int64, error) {
	size := b.fill.size()
	return b.followOn(w, off, end, off == 0 && (size < 0 || end >= size))
}

// followOn writes [off, end) of a body that is read whole, or not.
func (b *Blob) followOn(w io.Writer, off, end int64, whole bool) (int64, error) {
	pos := off
	for pos < end {
		to, err := b.fill.await(pos, end, whole)
		if errors.Is(err, io.EOF) && end == math.MaxInt64 && pos <= b.fill.size() {
			return pos - off, nil
		}
		if errors.Is(err, io.EOF) {
			return pos - off, errBeyondEnd
		}
		if err != nil {
			n, err := b.goOn(w, pos, end, whole, err)
			return pos - off + n, err
		}
		if err := b.openGrowing(); err != nil {
			n, err := b.goOn(w, pos, end, whole, err)
			return pos - off + n, err
		}
		n, err := b.send(w, pos, to-pos)
		pos += n
		if err != nil {
			return pos - off, err
		}
	}
	return pos - off, nil
}

// goOn writes [pos, end) of content whose fill has failed, if there is another way to it (detour.go).
func (b *Blob) goOn(w io.Writer, pos, end int64, whole bool, err error) (int64, error) {
	switch {
	case storeTrouble(err):
		return b.detour(w, pos, end, whole, err)
	case !b.rejoin(err):
		return 0, err
	case b.fill != nil:
		return b.followOn(w, pos, end, whole)
	}
	if err := b.same(); err != nil {
		return 0, err
	}
	if end == math.MaxInt64 {
		end = b.size
	}
	return b.WriteRange(w, pos, end-pos)
}

// openGrowing opens the file of a growing blob, when the reader first needs it.
func (b *Blob) openGrowing() error {
	if b.file != nil {
		return nil
	}
	file, shared, err := b.fill.openFile()
	if err != nil {
		return err
	}
	b.file, b.shared = file, shared
	return b.same()
}

// send writes bytes of a growing blob that are present. The fill closes its own file when it fails, and the number of the
// descriptor may be another's then, so it is read by its methods, which know.
func (b *Blob) send(w io.Writer, off, n int64) (int64, error) {
	if b.shared {
		return copyFile(w, b.file, off, n)
	}
	return sendFile(w, b.file, off, n)
}

// openFile opens the fill's file for one more reader: under its partial name or, after the fill has stored it, under its
// own. Looking in this order finds it whatever happens in between. Content that has no name any more, because it was
// evicted at once or could not be stored, is read through the fill's own descriptor, which stays open for its readers.
// So is all content while the process has no descriptor left: that is slower, because the kernel does not copy then.
func (f *fill) openFile() (file *os.File, shared bool, err error) {
	p, err := f.partOrFailure()
	if err != nil {
		return nil, false, err // it failed between the reader's waking and now
	}
	file, err = f.cache.disk.reopen(p.file)
	if errors.Is(err, fs.ErrNotExist) {
		file, err = f.cache.disk.open(f.request.Digest)
	}
	if errors.Is(err, fs.ErrNotExist) || isExhaustion(err) {
		_, err = f.partOrFailure() // what a failed fill discards has no name either
		return p.file, true, err
	}
	if err != nil {
		return nil, false, diskError("open partial file", err)
	}
	return file, false, nil
}

// partOrFailure returns the part, or why there is none any more.
func (f *fill) partOrFailure() (*part, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.part == nil {
		return nil, f.err
	}
	return f.part, nil
}

// fileSender is a writer that sends parts of files itself, as a TCP connection can without copying. It returns less than n
// without an error where the file ends.
type fileSender interface {
	SendFile(file *os.File, off, n int64) (int64, error)
}

// sendFile writes [off, off+n) of a file that nobody closes meanwhile.
func sendFile(w io.Writer, file *os.File, off, n int64) (int64, error) {
	s, ok := w.(fileSender)
	if !ok {
		return copyFile(w, file, off, n)
	}
	written, err := s.SendFile(file, off, n)
	return allSent(w, off, n, written, err)
}

// copyFile writes [off, off+n) of a file through memory.
func copyFile(w io.Writer, file *os.File, off, n int64) (int64, error) {
	written, err := io.Copy(w, io.NewSectionReader(file, off, n))
	return allSent(w, off, n, written, err)
}

// allSent makes sure that all was written, and that a client sees it.
func allSent(w io.Writer, off, n, written int64, err error) (int64, error) {
	if err != nil {
		return written, fmt.Errorf("send content: %w", err)
	}
	if written < n {
		return written, fmt.Errorf("send content: file ends after %d of %d bytes: %w", off+written, off+n, io.ErrUnexpectedEOF)
	}
	return written, flush(w)
}

// flush empties the buffer of a buffered writer, so that a client sees what is there.
func flush(w io.Writer) error {
	if f, ok := w.(interface{ Flush() error }); ok {
		return f.Flush()
	}
	return nil
}

// Close ends the reading. The fill of a growing blob goes on. Closing twice is harmless.
func (b *Blob) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	var err error
	switch {
	case b.file == nil || b.shared:
	case b.shelf != nil:
		err = b.shelf.put(b.entry, b.file)
	default:
		err = b.file.Close()
	}
	b.leaveBegun()
	if b.fill != nil {
		b.fill.detach(b.piece)
	}
	if b.pass != nil {
		b.pass.close()
	}
	return err
}
