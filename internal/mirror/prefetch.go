package mirror

import (
	"context"
	"errors"
	"sync"
	"time"

	"mirror/internal/catalog"
	"mirror/internal/oci"
	"mirror/internal/upstream"
)

const (
	// prefetchFills and prefetchBytes bound what is fetched ahead at a time of one upstream. Docker and containerd ask for
	// three layers at a time: these are the three after them, and one small thing. Content that is longer than the bytes
	// allow is fetched ahead when nothing else is.
	prefetchFills = 4
	prefetchBytes = 1 << 30
	// prefetchShares is how many upstreams' bounds all upstreams have together.
	prefetchShares = 4
	// prefetchQueue bounds what waits for that, of one upstream. Images have some ten layers.
	prefetchQueue = 128
	// prefetchPatience is for how long it waits. By then its client has asked, or has gone.
	prefetchPatience = time.Minute
	// prefetchPause is how long an upstream with something better to do is left alone.
	prefetchPause = 500 * time.Millisecond
	// prefetchRest is how long nothing is fetched ahead of an upstream that has refused it as one request too many.
	prefetchRest = 10 * time.Second
)

// prefetcher fetches content that nobody has asked for yet, within bounds, and as long as it takes nothing from anybody.
type prefetcher struct {
	mirror *Mirror
	unread *unread

	mu      sync.Mutex // guards all below
	closed  bool
	lanes   map[*upstream.Registry]*lane
	running load
}

// lane is what there is to be fetched ahead of one upstream.
type lane struct {
	up      *upstream.Registry
	queue   []errand
	running load
	// dialling are the fills that wait for the upstream's first answer: they may not have their connection yet.
	dialling int
	// pausing: a timer will look again.
	pausing bool
	// rest is until when nothing begins.
	rest time.Time
}

// errand is content to be fetched ahead.
type errand struct {
	ctx     context.Context // of the mirror, with what the request came through
	repo    oci.Repository
	content oci.Descriptor
	planned time.Time
}

// load is how much is being fetched ahead, or may be.
type load struct {
	fills int
	bytes int64
}

// admits reports whether n bytes more are within a bound.
func (l load) admits(n int64, most load) bool {
	return l.fills < most.fills && (l.fills == 0 || l.bytes+n <= most.bytes)
}

func (l *load) add(n int64) { l.fills, l.bytes = l.fills+1, l.bytes+n }
func (l *load) end(n int64) { l.fills, l.bytes = l.fills-1, l.bytes-n }

// The bounds for one upstream and for all.
func laneBound() load { return load{prefetchFills, prefetchBytes} }
func allBound() load  { return load{prefetchFills * prefetchShares, prefetchBytes * prefetchShares} }

func newPrefetcher(m *Mirror) *prefetcher {
	return &prefetcher{mirror: m, unread: newUnread(m.metrics), lanes: make(map[*upstream.Registry]*lane)}
}

// close lets nothing more begin. What has begun ends with the mirror.
func (p *prefetcher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

// add plans to fetch what one manifest announces, if the cache has room for all of it that nobody needs.
func (p *prefetcher) add(ctx context.Context, up *upstream.Registry, repo oci.Repository, wanted []oci.Descriptor) {
	if len(wanted) == 0 || !p.mirror.cache.Spare(p.planned()+sizeOf(wanted)) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lanes[up]
	if l == nil {
		l = &lane{up: up}
		p.lanes[up] = l
	}
	for _, d := range wanted[:min(len(wanted), prefetchQueue-len(l.queue))] {
		l.queue = append(l.queue, errand{ctx: ctx, repo: repo, content: d, planned: time.Now()})
	}
	p.startLocked()
}

// planned returns how many bytes are waiting to be fetched ahead. The cache knows what is on its way.
func (p *prefetcher) planned() (bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lanes {
		for _, e := range l.queue {
			bytes += e.content.Size
		}
	}
	return bytes
}

// state tells what is fetched ahead of one upstream.
func (p *prefetcher) state(up *upstream.Registry) Prefetch {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Prefetch{Enabled: up.Prefetch()}
	if l := p.lanes[up]; l != nil {
		s.Fills, s.Planned = l.running.fills, len(l.queue)
	}
	return s
}

// sizeOf returns the sum of what descriptors say.
func sizeOf(contents []oci.Descriptor) (bytes int64) {
	for _, d := range contents {
		bytes += d.Size
	}
	return bytes
}

// startLocked starts everything that may begin.
func (p *prefetcher) startLocked() {
	for _, l := range p.lanes {
		for !p.closed && p.mayStartLocked(l) {
			e := l.queue[0]
			l.queue = l.queue[1:]
			p.running.add(e.content.Size)
			l.running.add(e.content.Size)
			l.dialling++
			p.mirror.running.Go(func() { p.run(l, e) })
		}
	}
}

// mayStartLocked reports whether the first errand of a lane may begin. Whoever ends makes the next one be looked at, and
// when it is the upstream that does not allow it, a timer does.
func (p *prefetcher) mayStartLocked(l *lane) bool {
	for len(l.queue) > 0 && time.Since(l.queue[0].planned) > prefetchPatience {
		l.queue = l.queue[1:]
	}
	if len(l.queue) == 0 {
		return false
	}
	size := l.queue[0].content.Size
	if !l.running.admits(size, laneBound()) || !p.running.admits(size, allBound()) {
		return false
	}
	if !time.Now().Before(l.rest) && l.up.Spare() > l.dialling {
		return true
	}
	if !l.pausing {
		l.pausing = true
		time.AfterFunc(prefetchPause, func() { p.lookAgain(l) })
	}
	return false
}

func (p *prefetcher) lookAgain(l *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.pausing = false
	p.startLocked()
}

// refused lets an upstream rest that takes nothing more at the moment.
func (p *prefetcher) refused(l *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.rest = time.Now().Add(prefetchRest)
}

// run is one errand.
func (p *prefetcher) run(l *lane, e errand) {
	over := p.begin(l, e)
	p.mu.Lock()
	l.dialling--
	p.startLocked()
	p.mu.Unlock()
	if over != nil {
		select {
		case <-over:
		case <-e.ctx.Done():
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l.running.end(e.content.Size)
	p.running.end(e.content.Size)
	p.startLocked()
}

// begin starts the fill of an errand, and waits until the upstream has answered, which is the confirmation that the
// repository holds the content. over is closed when the fill has ended; it is nil when there is none.
func (p *prefetcher) begin(l *lane, e errand) (over <-chan struct{}) {
	m, d := p.mirror, e.content.Digest
	key := name{e.repo, oci.Reference{Digest: d}, blobKind}
	if m.refusal(key) != nil || !p.unread.expect(d) {
		return nil
	}
	want := alone(e.ctx, l.up, e.repo, d)
	want.From = source(e.ctx, e.repo, l.up.DownloadAhead(e.repo.Name, d))
	want = m.shared(want, e.repo)
	want.Hint = e.content.Size // as for a client: what a manifest says is not certain
	blob, err := m.cache.FillAhead(want)
	if blob == nil || err != nil {
		p.unread.forget(d) // a client was faster, or the cache is closing
		return nil
	}
	defer blob.Close()
	if err := blob.Ready(e.ctx); err != nil {
		p.unread.forget(d)
		m.noteRefusal(l.up, key, err)
		if errors.Is(err, upstream.ErrTooManyRequests) {
			p.refused(l)
		}
		m.log.Debug("content could not be fetched ahead; whoever asks for it will be told", "repository", e.repo, "digest", d, "error", err)
		return blob.Done()
	}
	m.catalog.SetLinks(e.repo, map[oci.Digest]catalog.Link{d: {Size: blob.Size(), Confirmed: true}})
	size := blob.Size()
	if size < 0 {
		size = e.content.Size
	}
	p.unread.came(d, e.repo.Registry, size)
	return blob.Done()
}
