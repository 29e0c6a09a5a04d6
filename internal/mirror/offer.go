package mirror

import (
	"context"
	"errors"
	"time"

	"mirror/internal/cache"
	"mirror/internal/catalog"
	"mirror/internal/oci"
	"mirror/internal/peer"
	"mirror/internal/upstream"
)

// smallOffer is the size in bytes up to which an owner serves every asker itself: a redirect would cost more.
const smallOffer = 1 << 20

// errHeld ends the wait of an asker for bytes that are still on their way.
var errHeld = errors.New("not yet")

// Offer is what a peer that asked for bytes of a chunk is answered.
type Offer struct {
	// Status is one of package peer.
	Status int
	// Node is the member to ask instead, with StatusAskOther.
	Node string
	// Moving and Size are what an asker should know that has to wait. Size is -1 while it is unknown.
	Moving int
	Size   int64
	// Whole: the registry has no ranges.
	Whole bool
	// Piece holds the bytes, with StatusContent. The caller closes it, and calls Sent with what it has sent.
	Piece *cache.Piece
	Sent  func(bytes int64)
}

// Defer makes an offer of content one that comes later, because this node is sending as much as it may.
func (o *Offer) Defer() error {
	o.Sent(0)
	err := o.Piece.Close()
	o.Status, o.Moving, o.Piece, o.Sent = peer.StatusNotYet, 1, nil, nil
	return err
}

// VerifyPeer tells which member sent a request.
func (m *Mirror) VerifyPeer(authorization string, r peer.Request) (peer.Proof, error) {
	if m.peers == nil {
		return peer.Proof{}, peer.ErrUnsigned
	}
	return m.peers.Verify(authorization, r)
}

// Offer answers a member that asks for bytes of a chunk. When they are not here, and the member does not want them only if
// they are, this node gets them, from a member of higher rank or the registry. Nobody waits for longer than peer.HoldTime.
func (m *Mirror) Offer(ctx context.Context, sender string, a peer.Ask) (*Offer, error) {
	repo := oci.Repository{Registry: a.Registry, Name: a.Repository}
	up, err := m.registry(repo)
	if err != nil {
		return nil, err
	}
	if a.Role == peer.AsOwner && !m.peers.Owns() {
		return &Offer{Status: peer.StatusUnable}, nil
	}
	span := cache.Span{Start: a.Start, End: a.End}
	size, held := m.cache.Held(a.Digest, span)
	err = m.mayOffer(ctx, up, repo, a.Digest, held || size >= 0)
	if errors.Is(err, errHeld) {
		return &Offer{Status: peer.StatusNotYet, Moving: 1, Size: -1}, nil // the question goes on
	}
	if err != nil {
		return nil, err
	}
	o := &Offer{Size: size, Whole: m.wholes.has(a.Digest)}
	o.Node = m.peers.Admit(a, sender, size >= 0 && size <= smallOffer)
	switch {
	case o.Node != "":
		o.Status = peer.StatusAskOther
		return o, nil
	case a.Role == peer.AsHolder && !held:
		o.Status, o.Moving = peer.StatusNotHeld, m.peers.Moving(a)
		return o, nil
	}
	return o, m.offerPiece(ctx, o, sender, a, m.request(ctx, up, repo, a.Digest))
}

// mayOffer fails when the repository is not known to have the content although that is here. What is not here is asked of
// the registry through the repository. That the registry is slow to answer is errHeld.
func (m *Mirror) mayOffer(ctx context.Context, up *upstream.Registry, repo oci.Repository, d oci.Digest, here bool) error {
	if err := m.refusal(name{repo, oci.Reference{Digest: d}, blobKind}); err != nil {
		return err
	}
	link, linked := m.catalog.Link(repo, d)
	if !here || linked && m.mayServe(link) {
		return nil
	}
	waiting, cancel := context.WithTimeoutCause(ctx, peer.HoldTime, errHeld)
	defer cancel()
	_, err := m.confirm(waiting, up, repo, d)
	return err
}

// offerPiece waits for the bytes for a moment.
func (m *Mirror) offerPiece(ctx context.Context, o *Offer, sender string, a peer.Ask, r cache.Request) error {
	if r.Chunk == 0 {
		r.Chunk = m.peers.ChunkSize() // content that is fetched from the registry alone
	}
	p, err := m.cache.Piece(r, cache.Span{Start: a.Start, End: a.End})
	if err != nil {
		return m.offerFailed(o, a, err)
	}
	waiting, cancel := context.WithTimeoutCause(ctx, peer.HoldTime, errHeld)
	defer cancel()
	if err = p.Wait(waiting); err == nil {
		m.offered(a, p.Size())
		o.Status, o.Size, o.Piece = peer.StatusContent, p.Size(), p
		done := m.peers.Sending(a, sender)
		o.Sent = func(n int64) { m.peers.Sent(n); done() }
		return nil
	}
	o.Size, o.Moving = p.Size(), m.peers.Moving(a)
	if o.Moving == 0 && p.Moving() {
		o.Moving = 1
	}
	_ = p.Close() // nothing was read from it; what it asked for goes on
	if errors.Is(err, errHeld) {
		o.Status, o.Whole = peer.StatusNotYet, m.wholes.has(a.Digest)
		return nil
	}
	return m.offerFailed(o, a, err)
}

// offered notes that a registry, or a member that asked it, has the content in the repository.
func (m *Mirror) offered(a peer.Ask, size int64) {
	repo := oci.Repository{Registry: a.Registry, Name: a.Repository}
	if link, ok := m.catalog.Link(repo, a.Digest); !ok || !link.Confirmed {
		m.catalog.SetLinks(repo, map[oci.Digest]catalog.Link{a.Digest: {Size: size, Confirmed: true}})
	}
}

// offerFailed says what a failure means for the asker.
func (m *Mirror) offerFailed(o *Offer, a peer.Ask, err error) error {
	repo := oci.Repository{Registry: a.Registry, Name: a.Repository}
	switch {
	case storeTrouble(err), errors.Is(err, cache.ErrClosed), errors.Is(err, cache.ErrSuspect), errors.Is(err, cache.ErrWrongContent):
		o.Status = peer.StatusUnable
		return nil
	case refusalIn(err) != nil && !foreign(err, repo):
		m.noteRefusal(m.registries[repo.Registry], name{repo, oci.Reference{Digest: a.Digest}, blobKind}, err)
	}
	return err
}

// OfferManifest answers a member that asks for a manifest, onlyHeld with one that is here.
func (m *Mirror) OfferManifest(ctx context.Context, c peer.Content, onlyHeld bool) (*Manifest, error) {
	repo := oci.Repository{Registry: c.Registry, Name: c.Repository}
	up, err := m.registry(repo)
	if err != nil {
		return nil, err
	}
	if stored := m.stored(repo, c.Digest); stored != nil || onlyHeld {
		return stored, nil
	}
	if !m.peers.Owns() {
		return nil, nil
	}
	return m.byDigest(ctx, up, repo, c.Digest)
}

// OfferTag answers a member that asks what a tag names: after a check if one is due, onlyHeld with what is known. ok is false
// when this node is the wrong one to ask.
func (m *Mirror) OfferTag(ctx context.Context, p peer.Proof, t peer.TagName, onlyHeld bool) (o *TagOffer, err error) {
	key := tagName{oci.Repository{Registry: t.Registry, Name: t.Repository}, t.Tag}
	up, err := m.registry(key.repo)
	if err != nil || !m.shareTags || !onlyHeld && !m.peers.Owns() {
		return nil, err
	}
	if !onlyHeld {
		if _, err := m.byTag(ctx, up, key); err != nil {
			return nil, err
		}
	}
	tag, known := m.catalog.Tag(key.repo, key.tag)
	if !known {
		return nil, nil
	}
	told := peer.Tag{Descriptor: tag.Descriptor, Age: max(0, time.Since(tag.CheckedAt))}
	age, signature := m.peers.SignTag(p, told)
	return &TagOffer{Descriptor: tag.Descriptor, Age: age, Signature: signature}, nil
}

// TagOffer is what a tag names, signed for one asker.
type TagOffer struct {
	Descriptor     oci.Descriptor
	Age, Signature string
}
