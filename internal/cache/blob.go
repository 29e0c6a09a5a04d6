package cache

import (
	"context"
	"fmt"
	"io"
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
	size   int64    // of complete content
	fill   *fill
	pass   *passage
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
// A writer with the methods Flush and ReadFrom (a bufio.Writer over a TCP connection) gets the bytes of files by sendfile,
// each piece as soon as it is there. A reader of everything does not get the last block before the digest is verified.
func (b *Blob) WriteRange(w io.Writer, off, n int64) (int64, error) {
	size := b.Size()
	if n < 0 {
		n = math.MaxInt64 - off
		if size >= 0 {
			n = size - off
		}
	}
	if off < 0 || n < 0 || size >= 0 && off+n > size {
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

// follow writes [off, end) of a growing blob. When the size is unknown, the end of the content is a right end too.
func (b *Blob) follow(w io.Writer, off, end int64) (int64, error) {
	size := b.fill.size()
	whole := off == 0 && (size < 0 || end >= size)
	pos := off
	for pos < end {
		to, err := b.fill.await(pos, end, whole)
		if err == io.EOF && size < 0 {
			return pos - off, nil
		}
		if err != nil {
			return pos - off, err
		}
		if b.file == nil {
			if b.file, err = b.fill.openFile(); err != nil {
				return pos - off, diskError("open partial file", err)
			}
		}
		n, err := sendFile(w, b.file, pos, to-pos)
		pos += n
		if err != nil {
			return pos - off, err
		}
	}
	return pos - off, nil
}

// openFile opens the fill's file for one more reader: under its partial name or, after the fill has stored it, under its
// own. Looking in this order finds it whatever happens in between.
func (f *fill) openFile() (*os.File, error) {
	f.mu.Lock()
	name := f.part.file.Name()
	f.mu.Unlock()
	file, err := os.Open(name)
	if os.IsNotExist(err) {
		file, err = f.cache.disk.open(f.request.Digest)
	}
	return file, err
}

// sendFile writes [off, off+n) of a file. The kernel copies when w ends in a TCP connection: that needs an empty buffer
// in between, a plain *os.File, and its own file offset, which is why every reader has its own descriptor.
func sendFile(w io.Writer, file *os.File, off, n int64) (int64, error) {
	if _, err := file.Seek(off, io.SeekStart); err != nil {
		return 0, diskError("seek", err)
	}
	if err := flush(w); err != nil {
		return 0, err
	}
	written, err := io.Copy(w, &io.LimitedReader{R: file, N: n})
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
	if b.fill != nil {
		b.fill.detach()
	}
	if b.pass != nil {
		b.pass.close()
	}
	if b.file != nil {
		return b.file.Close()
	}
	return nil
}
