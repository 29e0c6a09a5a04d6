package cache_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"mirror/internal/cache"
	"mirror/internal/oci"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	// smallLimit and holdBack are what the package documents: up to the first everything is held back, beyond it the
	// last holdBack bytes are. inFlight is how far a fetch may run over a limit that came nearer while it was reading.
	smallLimit = 1 * mib
	holdBack   = 32 * kib
	inFlight   = 256 * kib
)

var errDown = errors.New("source is down")

// content returns n bytes that look random, the same for the same n, and their digest. Nobody writes to them. It is one random block again and
// again, of a length that is no power of two, with its number and n at its start: making random bytes is slow under the
// race detector.
func content(n int) ([]byte, oci.Digest) {
	made, _ := contents.LoadOrStore(n, sync.OnceValues(func() ([]byte, oci.Digest) { return makeContent(n) }))
	return made.(func() ([]byte, oci.Digest))()
}

// contents keeps what content has made: int to a function that returns it.
var contents sync.Map

func makeContent(n int) ([]byte, oci.Digest) {
	var block [4093]byte
	_, _ = rand.NewChaCha8([32]byte{}).Read(block[:])
	b := make([]byte, n)
	for off := 0; off < n; off += len(block) {
		binary.LittleEndian.PutUint32(block[:], uint32(off))
		binary.LittleEndian.PutUint32(block[4:], uint32(n))
		copy(b[off:], block[:])
	}
	return b, oci.DigestOf(oci.SHA256, b)
}

// origin is a source that follows a script and counts what it delivers.
type origin struct {
	content []byte
	// noRanges answers every wish from the start; noSize tells no length; refuseRanges is an error for a wish that does not
	// begin at the start. chunk bounds what one read returns.
	noRanges, noSize bool
	refuseRanges     error
	chunk            int

	mu        sync.Mutex
	down      error
	gates     []*gate
	cuts      []int64 // offsets at which a body breaks off, once each
	stalls    []int64 // offsets at which a body delivers nothing any more, once each
	wrong     []int64 // offsets whose byte is delivered flipped
	delivered []cache.Span
	wishes    []cache.Span
	open      int // bodies that are not closed
}

// gate keeps the bytes [from, to) back until it is opened.
type gate struct {
	from, to int64
	opened   chan struct{}
}

func newOrigin(b []byte) *origin { return &origin{content: b} }

// request asks for d from the origin, with the size unknown and up to four fetches.
func (o *origin) request(d oci.Digest) cache.Request {
	return cache.Request{Digest: d, Size: -1, From: o.from, Fetches: 4}
}

// close keeps [from, to) back until the function that it returns is called.
func (o *origin) close(from, to int) (open func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := &gate{int64(from), int64(to), make(chan struct{})}
	o.gates = append(o.gates, g)
	return sync.OnceFunc(func() { close(g.opened) })
}

// set changes the script while the origin is in use.
func (o *origin) set(change func(*origin)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(o)
}

func (o *origin) from(ctx context.Context, want cache.Span) (*cache.Stream, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.down != nil {
		return nil, o.down
	}
	o.wishes = append(o.wishes, want)
	if o.refuseRanges != nil && want != (cache.Span{Start: 0, End: -1}) {
		return nil, o.refuseRanges
	}
	end := int64(len(o.content))
	if want.End >= 0 && !o.noRanges {
		end = min(end, want.End)
	}
	if o.noRanges {
		want.Start = 0
	}
	size := int64(len(o.content))
	if o.noSize {
		size = -1
	}
	o.open++
	return &cache.Stream{Body: &body{origin: o, ctx: ctx, pos: want.Start, end: end}, Start: want.Start, Size: size}, nil
}

// body is one answer.
type body struct {
	origin   *origin
	ctx      context.Context
	pos, end int64
	closed   bool
}

func (b *body) Read(p []byte) (int, error) {
	for {
		n, blocked, err := b.origin.deliver(b, p)
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-blocked:
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
	}
}

// deliver follows the script for one read: bytes, an error, or a channel to wait for (nil for ever).
func (o *origin) deliver(b *body, p []byte) (n int, blocked <-chan struct{}, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if b.ctx.Err() != nil {
		return 0, nil, b.ctx.Err()
	}
	if b.pos >= b.end {
		return 0, nil, io.EOF
	}
	end := min(b.end, b.pos+int64(len(p)))
	if o.chunk > 0 {
		end = min(end, b.pos+int64(o.chunk))
	}
	for _, g := range o.gates {
		select {
		case <-g.opened:
			continue
		default:
		}
		if g.from <= b.pos && b.pos < g.to {
			return 0, g.opened, nil
		}
		if g.from > b.pos {
			end = min(end, g.from)
		}
	}
	if i := slices.Index(o.cuts, b.pos); i >= 0 {
		o.cuts = slices.Delete(o.cuts, i, i+1)
		return 0, nil, io.ErrUnexpectedEOF
	}
	if i := slices.Index(o.stalls, b.pos); i >= 0 {
		o.stalls = slices.Delete(o.stalls, i, i+1)
		b.end = b.pos
		return 0, nil, nil
	}
	for _, stop := range slices.Concat(o.cuts, o.stalls) {
		if stop > b.pos {
			end = min(end, stop)
		}
	}
	n = copy(p, o.content[b.pos:end])
	o.delivered = append(o.delivered, cache.Span{Start: b.pos, End: end})
	for _, at := range o.wrong {
		if b.pos <= at && at < end {
			p[at-b.pos] ^= 0xff
		}
	}
	b.pos = end
	return n, nil, nil
}

func (b *body) Close() error {
	b.origin.mu.Lock()
	defer b.origin.mu.Unlock()
	if !b.closed {
		b.closed = true
		b.origin.open--
	}
	return nil
}

// deliveredBytes returns how many bytes the origin has delivered.
func (o *origin) deliveredBytes() (n int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.delivered {
		n += s.Len()
	}
	return n
}

// wantOnce fails the test unless each byte was delivered at least once, and at most extra bytes more than once.
func (o *origin) wantOnce(t *testing.T, extra int64) {
	t.Helper()
	again := o.deliveredBytes() - int64(len(o.content))
	o.mu.Lock()
	defer o.mu.Unlock()
	slices.SortFunc(o.delivered, func(a, b cache.Span) int { return cmp.Compare(a.Start, b.Start) })
	var end int64
	for _, s := range append(o.delivered, cache.Span{Start: int64(len(o.content))}) {
		if s.Start > end {
			t.Fatalf("bytes %d to %d were never delivered; wishes: %v", end, s.Start, o.wishes)
		}
		end = max(end, s.End)
	}
	if again > extra {
		t.Errorf("%d bytes were delivered more than once, want at most %d; wishes: %v", again, extra, o.wishes)
	}
	if o.open != 0 {
		t.Errorf("%d bodies were not closed", o.open)
	}
}

func (o *origin) wishCount() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.wishes)
}

// fill starts or joins a fill, which must work.
func fill(t testing.TB, c *cache.Cache, r cache.Request) *cache.Blob {
	t.Helper()
	b, _, err := c.Fill(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// read reads [off, off+n) as a server would: it waits for a status first.
func read(ctx context.Context, b *cache.Blob, off, n int64) ([]byte, error) {
	if err := b.Ready(ctx); err != nil {
		return nil, err
	}
	got := bytes.NewBuffer(make([]byte, 0, max(0, b.Size())))
	_, err := b.WriteRange(got, off, n)
	return got.Bytes(), err
}

// wantRange fails the test unless the blob delivers want from off on.
func wantRange(t *testing.T, b *cache.Blob, off int64, want []byte) {
	t.Helper()
	got, err := read(t.Context(), b, off, int64(len(want)))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes from %d on: got %d bytes, right: %v, error: %v", len(want), off, len(got), bytes.Equal(got, want), err)
	}
}

// wantWhole fails the test unless a request delivers the whole content.
func wantWhole(t *testing.T, c *cache.Cache, r cache.Request, want []byte) {
	t.Helper()
	b := fill(t, c, r)
	defer b.Close()
	got, err := read(t.Context(), b, 0, -1)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %v: got %d of %d bytes, right: %v, error: %v", r.Digest, len(got), len(want), bytes.Equal(got, want), err)
	}
}

// reading is a reader in its own goroutine that compares what it gets with the content, from its offset on.
type reading struct {
	expect []byte
	mu     sync.Mutex
	n      int
	wrong  bool
	done   chan struct{}
	err    error // after done
}

func (r *reading) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = r.wrong || r.n+len(b) > len(r.expect) || !bytes.Equal(r.expect[r.n:r.n+len(b)], b)
	r.n += len(b)
	return len(b), nil
}

// count returns how many bytes the reader has got so far, -1 when some of them are wrong.
func (r *reading) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wrong {
		return -1
	}
	return r.n
}

// start reads [off, off+n) of the blob, up to the end if n is negative, and closes it.
func start(b *cache.Blob, content []byte, off, n int64) *reading {
	expect := content[off:]
	if n >= 0 {
		expect = expect[:n]
	}
	r := &reading{expect: expect, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		defer b.Close()
		if r.err = b.Ready(context.Background()); r.err == nil {
			_, r.err = b.WriteRange(r, off, n)
		}
	}()
	return r
}

// complete waits for the reader and fails the test unless it has got exactly what it asked for.
func (r *reading) complete(t *testing.T) {
	t.Helper()
	<-r.done
	if r.err != nil || r.count() != len(r.expect) {
		t.Errorf("reader got %d of %d bytes (-1: wrong ones), error: %v", r.count(), len(r.expect), r.err)
	}
}

// short waits for the reader and fails the test unless it ended with an error and less than it asked for.
func (r *reading) short(t *testing.T, want error) {
	t.Helper()
	<-r.done
	if r.n >= len(r.expect) || !errors.Is(r.err, want) {
		t.Errorf("reader got %d of %d bytes and error %v, want fewer and %v", r.n, len(r.expect), r.err, want)
	}
}

// memoryDir returns a directory without a disk below it where there is one: every step of a cache
// syncs, and tests of many steps, which do not cut the power, would only wait for that.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "mirror-cache-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// descriptors counts the open descriptors of the process.
func descriptors(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

var errGaveUp = errors.New("client gave up")

// contextWithTimeout ends with the cause errGaveUp.
func contextWithTimeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(t.Context(), d, errGaveUp)
}

// shrinking tells no length at first, and from the second request on one MiB.
func shrinking(o *origin) cache.FillFunc {
	return func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
		s, err := o.from(ctx, want)
		if err == nil && want.Start > 0 {
			s.Size = mib
		}
		return s, err
	}
}

// slowToEnd delays the end of each body until ending is closed.
func slowToEnd(o *origin, ending <-chan struct{}) cache.FillFunc {
	return func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
		s, err := o.from(ctx, want)
		if err == nil {
			s.Body = slowCloser{s.Body, ending}
		}
		return s, err
	}
}

type slowCloser struct {
	io.ReadCloser
	ending <-chan struct{}
}

func (s slowCloser) Close() error {
	<-s.ending
	return s.ReadCloser.Close()
}

// sleepSeconds lets time pass that is measured in seconds; only inside a synctest bubble.
func sleepSeconds(n int) { time.Sleep(time.Duration(n) * time.Second) }

// onlyUpTo delivers the bytes before end, and is down beyond.
func onlyUpTo(o *origin, end int64) cache.FillFunc {
	o.cuts = []int64{end}
	return func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
		o.mu.Lock()
		over := len(o.cuts) == 0 || want.Start >= end
		o.mu.Unlock()
		if over {
			return nil, errDown
		}
		return o.from(ctx, want)
	}
}
