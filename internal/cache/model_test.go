package cache_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
	"mirror/internal/units"
)

// model is what the cache should hold, with room for everything.
type model struct {
	t       *testing.T
	random  *rand.Rand
	cfg     cache.Config
	cache   *cache.Cache
	stored  map[oci.Digest][]byte
	pinned  map[oci.Digest]bool
	readers sync.WaitGroup
}

// TestModel does random things to a cache and to a map, and compares them after each step.
func TestModel(t *testing.T) { synctest.Test(t, testModel) }

func testModel(t *testing.T) {
	seed := rand.Uint64()
	m := &model{t: t, random: rand.New(rand.NewPCG(seed, 0)), stored: make(map[oci.Digest][]byte), pinned: make(map[oci.Digest]bool)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	m.cfg = cachetest.Config(t)
	m.cfg.Dir = memoryDir(t)
	m.cfg.Memory = cache.MemoryConfig{MaxSize: units.MiB, MaxBlob: 32 * units.KiB}
	m.start()
	for step := 0; step < 2000 && !t.Failed(); step++ {
		m.step()
	}
	m.restart()
}

// start opens the cache.
func (m *model) start() {
	m.cache = cachetest.Unchecked(m.t, m.cfg)
	m.cache.SetParallel(128*kib, 64*kib, 3)
	m.cache.SetSeed(m.random.Uint64())
}

// content is one of two hundred contents; a few are larger than what is held back whole.
func (m *model) content() ([]byte, oci.Digest) {
	i := m.random.IntN(200)
	if i%40 == 0 {
		return content(smallLimit + 1 + i)
	}
	return content(i * i)
}

func (m *model) step() {
	b, d := m.content()
	switch what := m.random.IntN(100); {
	case what < 15:
		if err := m.cache.Put(d, b); err != nil {
			m.t.Error(err)
		}
		m.stored[d] = b
	case what < 45:
		m.open(d, b)
	case what < 65:
		m.fill(d, b, m.fault(len(b)))
		m.stored[d] = b
	case what < 75:
		m.failingFill(d, b)
	case what < 80:
		m.pin()
	case what < 86:
		m.pieces(d, b)
	case what < 98:
		_, was := m.stored[d]
		if got := m.cache.Remove(d); got != was {
			m.t.Errorf("removed %v: %v, want %v", d, got, was)
		}
		delete(m.stored, d)
	default:
		m.restart()
	}
	got, ok := m.cache.Content(d)
	if ok != (m.stored[d] != nil) || ok && (got.Size != int64(len(b)) || got.Pinned != m.pinned[d]) {
		m.t.Errorf("%d bytes: stored %v as %+v, want stored %v, pinned %v", len(b), ok, got, m.stored[d] != nil, m.pinned[d])
	}
}

// pin pins some contents, or gives them free, stored or not.
func (m *model) pin() {
	change, pinned := m.cache.Pin, true
	if m.random.IntN(2) == 0 {
		change, pinned = m.cache.Unpin, false
	}
	var digests []oci.Digest
	for range m.random.IntN(4) {
		_, d := m.content()
		digests = append(digests, d)
		m.pinned[d] = pinned
	}
	if err := change(digests...); err != nil {
		m.t.Error(err)
	}
}

// open reads content if it is stored, in the background.
func (m *model) open(d oci.Digest, b []byte) {
	blob, err := m.cache.Open(d)
	if _, stored := m.stored[d]; !stored {
		if !errors.Is(err, cache.ErrNotFound) {
			m.t.Errorf("open of %d bytes that are not stored: %v", len(b), err)
		}
		return
	}
	if err != nil {
		m.t.Errorf("open of %d bytes that are stored: %v", len(b), err)
		return
	}
	m.read(blob, b)
}

// read reads a random range in the background, whatever happens to the cache meanwhile.
func (m *model) read(blob *cache.Blob, b []byte) {
	off := m.random.IntN(len(b) + 1)
	n := m.random.IntN(len(b) - off + 1)
	m.readers.Go(func() {
		defer blob.Close()
		var got bytes.Buffer
		if _, err := blob.WriteRange(&got, int64(off), int64(n)); err != nil || !bytes.Equal(got.Bytes(), b[off:off+n]) {
			m.t.Errorf("read [%d, %d) of %d: got %d bytes, error %v", off, off+n, len(b), got.Len(), err)
		}
	})
}

// fault changes how an origin behaves, in a way that a fill survives.
func (m *model) fault(n int) func(*origin) {
	kind, at := m.random.IntN(5), m.random.Int64N(int64(n)+1)
	return func(o *origin) {
		switch kind {
		case 0:
			o.cuts = []int64{at}
		case 1:
			o.noSize = true
		case 2:
			o.noRanges = true
		case 3:
			o.noRanges, o.noSize, o.chunk = true, true, 1000
		}
	}
}

// fill fills content with several readers.
func (m *model) fill(d oci.Digest, b []byte, script func(*origin)) {
	o := newOrigin(b)
	script(o)
	for range 1 + m.random.IntN(3) {
		blob, _, err := m.cache.Fill(m.request(o, d))
		if err != nil {
			m.t.Error(err)
			return
		}
		m.read(blob, b)
	}
	cachetest.Settle(m.cache)
}

// request asks for content in chunks or not.
func (m *model) request(o *origin, d oci.Digest) cache.Request {
	if m.random.IntN(2) == 0 {
		return o.chunked(d)
	}
	return o.request(d)
}

// pieces asks for random pieces at once, and sometimes for everything while they come. The content may be complete
// afterwards.
func (m *model) pieces(d oci.Digest, b []byte) {
	o := newOrigin(b)
	m.fault(len(b))(o)
	for range 1 + m.random.IntN(4) {
		from := m.random.IntN(len(b) + 1)
		p, err := m.cache.Piece(o.chunked(d), cache.Span{Start: int64(from), End: int64(from + m.random.IntN(2*chunk))})
		if errors.Is(err, cache.ErrSuspect) {
			return
		}
		if err != nil && (from < len(b) || !errors.Is(err, cache.ErrNoSpan)) {
			m.t.Errorf("piece from %d on of %d bytes: %v", from, len(b), err)
		}
		if err == nil {
			m.readers.Go(func() { readPiece(m.t, p, b) })
		}
	}
	if m.random.IntN(4) == 0 {
		m.fill(d, b, m.fault(len(b)))
	}
	cachetest.Settle(m.cache)
	if _, ok := m.cache.Stat(d); ok {
		m.stored[d] = b
	}
}

// readPiece reads a piece of b, which must work unless it begins at the end, and closes it.
func readPiece(t *testing.T, p *cache.Piece, b []byte) {
	defer p.Close()
	var got bytes.Buffer
	_, err := p.WriteTo(&got)
	span := p.Span()
	if errors.Is(err, cache.ErrNoSpan) && span.Start >= int64(len(b)) {
		return
	}
	if err != nil || !bytes.Equal(got.Bytes(), b[span.Start:span.End]) {
		t.Errorf("piece %v of %d: got %d bytes, error %v", span, len(b), got.Len(), err)
	}
}

// failingFill fills from a source that delivers a wrong byte, or breaks off for good. The content is stored afterwards only
// if it was before, or if an earlier fill had left the byte that is wrong now.
func (m *model) failingFill(d oci.Digest, b []byte) {
	if len(b) == 0 {
		return
	}
	o := newOrigin(b)
	var want error
	r := o.request(d)
	if at := m.random.Int64N(int64(len(b))); m.random.IntN(2) == 0 {
		o.wrong, want = []int64{at}, cache.ErrWrongContent
	} else {
		r.From, want = onlyUpTo(o, at), errDown
	}
	blob, _, err := m.cache.Fill(r)
	if err != nil {
		m.t.Error(err)
		return
	}
	defer blob.Close()
	got, err := read(m.t.Context(), blob, 0, -1)
	if _, stored := m.stored[d]; stored {
		want = nil
	}
	if want == cache.ErrWrongContent && o.deliveredBytes() < int64(len(b)) && bytes.Equal(got, b) {
		want, m.stored[d] = nil, b
	}
	if !errors.Is(err, want) || want != nil && len(got) >= len(b) {
		m.t.Errorf("fill of %d bytes from a bad source: got %d bytes and %v, want %v", len(b), len(got), err, want)
	}
	cachetest.Settle(m.cache)
}

// restart closes and opens the cache, and checks it before and after.
func (m *model) restart() {
	m.readers.Wait()
	cachetest.Settle(m.cache)
	if err := errors.Join(m.cache.Check(m.t.Context()), m.cache.Close()); err != nil {
		m.t.Error(err)
	}
	m.start()
	if err := m.cache.Check(m.t.Context()); err != nil {
		m.t.Error(err)
	}
	for d, b := range m.stored {
		if got, ok := m.cache.Content(d); !ok || got.Size != int64(len(b)) || got.Pinned != m.pinned[d] {
			m.t.Errorf("after a restart: stored %v as %+v, want %d bytes, pinned %v", ok, got, len(b), m.pinned[d])
		}
	}
}

// TestModelUnderPressure does random things at once in a cache that is far too small. What is read is right, and what there
// is no room for says so.
func TestModelUnderPressure(t *testing.T) { synctest.Test(t, testModelUnderPressure) }

func testModelUnderPressure(t *testing.T) {
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	cfg := cachetest.Config(t)
	cfg.Dir, cfg.MaxSize = memoryDir(t), 5*units.MiB/2
	cfg.Memory = cache.MemoryConfig{MaxSize: units.MiB, MaxBlob: 32 * units.KiB}
	b, kept := content(pressedKept)
	for round := range uint64(4) {
		c := cachetest.Unchecked(t, cfg)
		if round%2 == 1 {
			c.SetAhead(300 * kib)
		}
		if err := errors.Join(c.Put(kept, b), c.Pin(kept)); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for worker := range uint64(6) {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(seed, round<<8|worker))
				for range 40 {
					pressed(t, c, random)
				}
			})
		}
		wg.Wait()
		cachetest.Settle(c)
		wantPinned(t, c, kept, true)
		if err := errors.Join(c.Check(t.Context()), c.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// pinForAWhile pins content, sometimes removes it nevertheless, and lets it go. Others do so at the same time.
func pinForAWhile(t *testing.T, c *cache.Cache, d oci.Digest, random *rand.Rand) {
	if err := c.Pin(d); err != nil {
		t.Error(err)
	}
	if random.IntN(2) == 0 {
		c.Remove(d)
	}
	if err := c.Unpin(d); err != nil {
		t.Error(err)
	}
}

// pressedKept is the size of the content that pressed asks for and that stays pinned.
const pressedKept = 30 * kib

// pressed does one random thing.
func pressed(t *testing.T, c *cache.Cache, random *rand.Rand) {
	b, d := content([]int{0, 100, 10 * kib, 20 * kib, pressedKept, 200 * kib, 300 * kib, smallLimit + 1, smallLimit + 2}[random.IntN(9)])
	switch random.IntN(8) {
	case 0:
		if len(b) != pressedKept {
			pinForAWhile(t, c, d, random)
		}
	case 1:
		if err := c.Put(d, b); err != nil && !errors.Is(err, cache.ErrNoRoom) {
			t.Error(err)
		}
	case 2:
		if len(b) != pressedKept {
			c.Remove(d)
		}
	case 3, 4:
		pressedPiece(t, c, random, b, d)
	default:
		o := newOrigin(b)
		o.chunk = 60_000
		request := o.request(d)
		if random.IntN(2) == 0 {
			request = o.chunked(d)
		}
		if random.IntN(8) == 0 && len(b) > 0 {
			o.cuts = []int64{random.Int64N(int64(len(b)))}
		}
		blob, _, err := c.Fill(request)
		if err != nil {
			t.Error(err)
			return
		}
		defer blob.Close()
		got, err := read(t.Context(), blob, 0, -1)
		if err != nil && !errors.Is(err, cache.ErrNoRoom) || err == nil && !bytes.Equal(got, b) {
			t.Errorf("read %d bytes: got %d, error %v", len(b), len(got), err)
		}
	}
}

// pressedPiece reads a piece that may not find room. Content that is put while it is asked for ends it.
func pressedPiece(t *testing.T, c *cache.Cache, random *rand.Rand, b []byte, d oci.Digest) {
	span := chunkOf(random.Int64N(int64(len(b)/chunk + 1)))
	p, err := c.Piece(newOrigin(b).chunked(d), span)
	if errors.Is(err, cache.ErrNoRoom) {
		return // the fill that it met has just failed
	}
	if err != nil {
		t.Errorf("piece %v of %d bytes: %v", span, len(b), err)
		return
	}
	defer p.Close()
	var got bytes.Buffer
	_, err = p.WriteTo(&got)
	if err == nil && !bytes.Equal(got.Bytes(), b[span.Start:p.Span().End]) {
		t.Errorf("piece %v of %d bytes: got %d, which are wrong", span, len(b), got.Len())
	}
	if err != nil && !errors.Is(err, cache.ErrNoRoom) && !errors.Is(err, cache.ErrRetired) {
		t.Errorf("piece %v of %d bytes: %v", span, len(b), err)
	}
}
