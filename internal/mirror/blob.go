package mirror

import (
	"context"
	"errors"
	"fmt"

	"mirror/internal/cache"
	"mirror/internal/catalog"
	"mirror/internal/oci"
	"mirror/internal/upstream"
)

// Blob is an open blob and where it came from. The caller closes it.
type Blob struct {
	*cache.Blob
	Outcome Outcome
	Source  Source
}

// Stat is what a HEAD of a blob tells.
type Stat struct {
	Size    int64 // in bytes; -1 when the upstream did not tell
	Outcome Outcome
	Source  Source
}

// Blob opens a blob of a repository: from the cache, by joining its fill, or by starting one. When it returns, a status
// can be sent: the upstream has answered and the size is known, if the upstream tells it at all. It waits at most as long
// as ctx; the fill goes on without.
func (m *Mirror) Blob(ctx context.Context, repo oci.Repository, d oci.Digest) (*Blob, error) {
	b, err := m.blob(ctx, repo, d)
	if err != nil {
		m.metrics.lookup(blobKind, Miss, Upstream)
		return nil, fmt.Errorf("blob %s of %s: %w", d, repo, m.offline(repo, oci.Reference{Digest: d}, err))
	}
	m.metrics.lookup(blobKind, b.Outcome, b.Source)
	m.prefetch.unread.asked(d)
	return b, nil
}

func (m *Mirror) blob(ctx context.Context, repo oci.Repository, d oci.Digest) (*Blob, error) {
	up, err := m.registry(repo)
	if err != nil {
		return nil, err
	}
	b, err := m.hitOrFill(ctx, up, repo, d)
	for foreign(err, repo) && ctx.Err() == nil {
		b, err = m.hitOrFill(ctx, up, repo, d)
	}
	return m.orPass(ctx, up, repo, d, b, err)
}

// hitOrFill opens what is here or being filled, or starts a fill.
func (m *Mirror) hitOrFill(ctx context.Context, up *upstream.Registry, repo oci.Repository, d oci.Digest) (*Blob, error) {
	link, linked := m.catalog.Link(repo, d)
	b, err := m.cache.Open(d)
	if errors.Is(err, cache.ErrNotFound) {
		return m.fill(ctx, up, repo, d, link, linked)
	}
	if err != nil {
		return nil, err
	}
	return m.present(ctx, up, repo, d, b, linked && m.mayServe(link))
}

// mayServe reports whether content that is here may be served through a repository that it is linked to. A manifest that
// names it is enough only where the mirror reads nothing with credentials, because not every registry checks that a
// repository holds what its manifests name, and what they name may have come from another registry.
func (m *Mirror) mayServe(link catalog.Link) bool { return link.Confirmed || m.open }

// present serves content that is stored or being filled, after asking the upstream whether this repository has it, unless
// that is known.
func (m *Mirror) present(ctx context.Context, up *upstream.Registry, repo oci.Repository, d oci.Digest, b *cache.Blob, visible bool) (*Blob, error) {
	outcome := Hit
	if b.Tier() == cache.TierSource {
		outcome = Join
		b.Fallback(alone(ctx, up, repo, d), func(err error) bool { return foreign(err, repo) })
	}
	if !visible {
		if _, err := m.confirm(ctx, up, repo, d); err != nil {
			_ = b.Close() // nothing was read
			return nil, err
		}
	}
	return m.ready(ctx, b, outcome)
}

// confirm asks the upstream whether a repository holds content, once however many wait, and links it if so. It returns
// the content's size.
func (m *Mirror) confirm(ctx context.Context, up *upstream.Registry, repo oci.Repository, d oci.Digest) (int64, error) {
	key := name{repo, oci.Reference{Digest: d}, blobKind}
	if err := m.refusal(key); err != nil {
		return 0, err
	}
	detached := m.detached(ctx)
	f, _ := m.confirms.start(content{repo, d}, &m.running, func() (int64, error) {
		ctx, cancel := context.WithTimeout(detached, fetchTimeout)
		defer cancel()
		if link, ok := m.catalog.Link(repo, d); ok && link.Confirmed {
			return link.Size, nil // since the caller looked
		}
		size, err := up.HeadBlob(ctx, repo.Name, d)
		if err != nil {
			m.noteRefusal(up, key, err)
			return 0, err
		}
		m.catalog.SetLinks(repo, map[oci.Digest]catalog.Link{d: {Size: size, Confirmed: true}})
		return size, nil
	})
	return f.wait(ctx)
}

// fill starts a fill through the repository, or joins one that has just started. A source that answers is the
// confirmation that the repository holds the content.
func (m *Mirror) fill(ctx context.Context, up *upstream.Registry, repo oci.Repository, d oci.Digest, link catalog.Link, linked bool) (*Blob, error) {
	if up.Offline() && !m.sharing() {
		return nil, errOffline(repo) // a fill that cannot begin would count as one that failed
	}
	key := name{repo, oci.Reference{Digest: d}, blobKind}
	if err := m.refusal(key); err != nil {
		return nil, err
	}
	want := m.request(ctx, up, repo, d)
	switch {
	case linked && link.Confirmed:
		want.Size = link.Size
	case linked:
		want.Hint = link.Size // a manifest may say anything of content that it does not bring
	}
	blob, joined, err := m.cache.Fill(want)
	if err != nil {
		return nil, err
	}
	if joined {
		return m.present(ctx, up, repo, d, blob, linked && m.mayServe(link))
	}
	b, err := m.ready(ctx, blob, Miss)
	if err != nil {
		m.noteRefusal(up, key, err)
		return nil, err
	}
	m.catalog.SetLinks(repo, map[oci.Digest]catalog.Link{d: {Size: b.Size(), Confirmed: true}})
	if up.Prefetch() {
		detached := m.detached(ctx)
		m.running.Go(func() { m.lookAhead(detached, up, repo, d) })
	}
	return b, nil
}

// ready waits until a status can be sent.
func (m *Mirror) ready(ctx context.Context, b *cache.Blob, outcome Outcome) (*Blob, error) {
	if err := b.Ready(ctx); err != nil {
		_ = b.Close() // nothing was read
		return nil, err
	}
	return &Blob{Blob: b, Outcome: outcome, Source: m.sourceOf(b)}, nil
}

func (m *Mirror) sourceOf(b *cache.Blob) Source {
	if b.Tier() == cache.TierSource {
		return m.sourceOfFill(b.Digest())
	}
	return sourceOf(b.Tier())
}

// orPass serves content straight from the upstream, through the repository that was asked for, when the reason for an
// error is that it could not be kept or read here. The client must not suffer for a full disk.
func (m *Mirror) orPass(ctx context.Context, up *upstream.Registry, repo oci.Repository, d oci.Digest, b *Blob, err error) (*Blob, error) {
	if !storeTrouble(err) {
		return b, err
	}
	if held, ok := m.noStore.pass(); ok {
		m.log.Warn("content passes through without being stored: raise cache.max_size or look after the disk",
			"repository", repo, "digest", d, "error", err, "held_back", held)
	}
	return m.ready(ctx, m.cache.Pass(alone(ctx, up, repo, d)), Miss)
}

// StatBlob answers a HEAD. It opens nothing upstream but a HEAD, and starts no fill.
func (m *Mirror) StatBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (Stat, error) {
	s, err := m.statBlob(ctx, repo, d)
	if err != nil {
		m.metrics.lookup(blobKind, Miss, Upstream)
		return Stat{}, fmt.Errorf("blob %s of %s: %w", d, repo, m.offline(repo, oci.Reference{Digest: d}, err))
	}
	m.metrics.lookup(blobKind, s.Outcome, s.Source)
	return s, nil
}

func (m *Mirror) statBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (Stat, error) {
	up, err := m.registry(repo)
	if err != nil {
		return Stat{}, err
	}
	s, err := m.statHere(ctx, up, repo, d)
	if errors.Is(err, cache.ErrNotFound) || storeTrouble(err) || foreign(err, repo) {
		size, err := m.confirm(ctx, up, repo, d)
		return Stat{Size: size, Outcome: Miss, Source: Upstream}, err
	}
	return s, err
}

// statHere is StatBlob for content that is here or being filled.
func (m *Mirror) statHere(ctx context.Context, up *upstream.Registry, repo oci.Repository, d oci.Digest) (Stat, error) {
	link, linked := m.catalog.Link(repo, d)
	blob, err := m.cache.Open(d)
	if err != nil {
		return Stat{}, err
	}
	b, err := m.present(ctx, up, repo, d, blob, linked && m.mayServe(link))
	if err != nil {
		return Stat{}, err
	}
	return Stat{Size: b.Size(), Outcome: b.Outcome, Source: b.Source}, b.Close()
}

// alone is a fill of content of unknown size from a repository, without peers.
func alone(ctx context.Context, up *upstream.Registry, repo oci.Repository, d oci.Digest) cache.Request {
	return cache.Request{Digest: d, Size: -1, From: source(ctx, repo, up.Download(repo.Name, d)), Fetches: up.BlobConnections()}
}

// source opens the bytes of a download, for a fill. It keeps nothing of ctx but what the request came through.
// An answer to a range that is not what was asked for costs a request without one, not the fill, and one request too many
// costs a connection.
func source(ctx context.Context, repo oci.Repository, download *upstream.Download) cache.FillFunc {
	via := upstream.ViaOf(ctx)
	return func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
		body, err := download.Open(upstream.WithVia(ctx, via), want.Start, want.End)
		if errors.Is(err, upstream.ErrWrongContent) && want.Start > 0 {
			err = fmt.Errorf("%w: %w", cache.ErrNoRange, err)
		}
		if errors.Is(err, upstream.ErrTooManyRequests) {
			err = fmt.Errorf("%w: %w", cache.ErrBusy, err)
		}
		if err != nil {
			return nil, &sourceError{repo, err}
		}
		return &cache.Stream{Body: body, Start: body.Start, Size: body.Size, Whole: body.Whole, Reject: body.Reject}, nil
	}
}
