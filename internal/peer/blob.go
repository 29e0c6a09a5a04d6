package peer

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Blob is content that a node gets chunk by chunk, from peers or from its registry. One is made for each fill. It may be
// used by several goroutines.
type Blob struct {
	exchange *Exchange
	content  Content
	origin   Origin

	mu     sync.Mutex
	going  map[int64]*transfer // by the number of the chunk
	size   int64               // -1 while nobody has told
	survey sync.Once
	// sized is closed when the size is known, so that nobody has to wait for bytes to know it.
	sized chan struct{}
	whole bool          // the registry has no ranges: chunk 0 owns everything
	pace  time.Duration // smoothed time of a whole chunk from its first byte to its last
	from  map[int64]string
	// holder is a member that had a chunk when everybody was asked.
	holder string
}

// Blob prepares the getting of content. origin is asked for what this node owns, and when peers are of no use.
func (e *Exchange) Blob(c Content, origin Origin) *Blob {
	return &Blob{
		exchange: e, content: c, origin: origin, going: map[int64]*transfer{}, size: -1,
		sized: make(chan struct{}), from: map[int64]string{},
	}
}

// Senders lists who sent which chunk, by its number; chunks from the registry are not in it. With it and the right content
// one can tell who sent wrong bytes. They may have been passed on in good faith.
func (b *Blob) Senders() map[int64]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	senders := make(map[int64]string, len(b.from))
	for chunk, name := range b.from {
		senders[chunk] = name
	}
	return senders
}

// learn takes in what an answer tells about the whole blob.
func (b *Blob) learn(said *answer) {
	switch said.status {
	case StatusContent, StatusNotYet:
		b.learnSize(said.size, said.whole)
	case StatusAskOther:
		b.learnSize(-1, said.whole)
	}
}

// Whole tells whether the registry is known to have no ranges, whoever has found out.
func (b *Blob) Whole() bool {
	_, whole := b.known()
	return whole
}

func (b *Blob) learnSize(size int64, whole bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.whole = b.whole || whole
	if b.size < 0 && size >= 0 {
		b.size = size
		close(b.sized)
	}
}

// fits fails when content that a member sends is of a blob of another size. It closes that, because one of two members is
// mistaken, and bytes of both would not fit together.
func (b *Blob) fits(from *Member, said *answer) error {
	size, _ := b.known()
	if said.body == nil || size < 0 || said.size == size {
		return nil
	}
	_ = said.body.Close() // nothing was read from it
	return fmt.Errorf("peer %s: %w: a blob of %d bytes, others say %d", from.Name, ErrMalformed, said.size, size)
}

func (b *Blob) known() (size int64, whole bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size, b.whole
}

// transfer returns the getting of a chunk: a new one, or one whose last source has failed.
func (b *Blob) transfer(chunk int64) *transfer {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.going[chunk]; t != nil {
		return t
	}
	id := chunkID{b.content.Digest, chunk}
	if b.whole {
		id.key = 0
	}
	t := &transfer{blob: b, id: id, key: ChunkKey(id.digest, id.key), board: b.exchange.boards.get(id, time.Now())}
	b.going[chunk] = t
	return t
}

// finished forgets a transfer whose chunk is complete, and learns how long it took; took is 0 when that says nothing.
func (b *Blob) finished(chunk int64, from string, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.going, chunk)
	if from != "" {
		b.from[chunk] = from
	}
	switch {
	case took == 0:
	case b.pace == 0:
		b.pace = took
	default:
		b.pace += (took - b.pace) / 5
	}
}

// patience is how long a parent may take for n bytes after so many complaints.
func (b *Blob) patience(n int64, again int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	patience := patienceUnknown
	if b.pace > 0 {
		patience = time.Duration(float64(patienceFactor*b.pace) * float64(n) / float64(b.exchange.chunk))
	}
	return max(patience, patienceLeast) << min(again, 6)
}

// Body is bytes of one chunk on their way. Its source may change under way; what is read goes on where it was. It is read
// and closed by one goroutine.
type Body struct {
	// Start is the offset of the first byte, Size the length of the whole blob, or -1. Whole: the registry has no ranges, and
	// the body goes to the end of the blob.
	Start, Size int64
	Whole       bool
	// Peer: the first byte comes from a peer, or is expected from one.
	Peer bool

	blob     *Blob
	transfer *transfer
	chunk    int64
	ctx      context.Context
	cancel   context.CancelFunc
	found    chan struct{} // closed when the first source is known, or err says why there is none
	err      error
	promise  sync.Mutex // guards Start, Size and Whole until they are promised
	promised bool
	offered  bool // the registry was the first source

	pos      atomic.Int64 // of the next byte
	end      int64        // -1: the end of the blob, wherever that is
	src      *source      // a peer, or
	origin   io.ReadCloser
	reject   func() // of origin; may be nil
	sender   string // the name of the last peer, if that was the last source
	watch    *watch
	began    time.Time // when the first byte of src came
	beganAt  int64     // and its offset
	complain *time.Timer
	better   chan *source
	leave    func() // the board
}

// Open opens bytes [start, end) of a chunk, which they do not go beyond. It returns as soon as the size of the blob is
// known, which may be long before the bytes come. A refusal of the registry is a RefusedError, whoever has met it.
func (b *Blob) Open(ctx context.Context, start, end int64) (*Body, error) {
	b.survey.Do(func() { b.exchange.survey(b.content) })
	ctx, cancel := context.WithCancel(ctx)
	size, _ := b.known()
	x := &Body{
		Start: start, Size: size, blob: b, chunk: start / b.exchange.chunk, ctx: ctx, cancel: cancel, end: end,
		found: make(chan struct{}), better: make(chan *source, 1),
	}
	x.pos.Store(start)
	x.transfer = b.transfer(x.chunk)
	x.leave = x.transfer.board.enter(x.transfer)
	go x.begin()
	select {
	case <-x.found:
	case <-b.sized:
	}
	if err := x.settle(); err != nil {
		_ = x.Close()
		return nil, err
	}
	return x, nil
}

// settle fixes what is promised to the reader.
func (x *Body) settle() error {
	select {
	case <-x.found:
		if x.err != nil {
			return x.err
		}
	default:
	}
	x.promise.Lock()
	defer x.promise.Unlock()
	if x.Size < 0 {
		x.Size, _ = x.blob.known()
	}
	x.promised, x.Peer = true, !x.offered
	return nil
}

func (b *Blob) lastHolder() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.holder
}

func (b *Blob) foundAt(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holder = name
}
