package mirror

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"
	"time"

	"mirror/internal/cache"
	"mirror/internal/oci"
	"mirror/internal/peer"
	"mirror/internal/upstream"
)

const (
	// chunksInFlight is how many chunks of one blob are got at a time. More hurts when several cold blobs share a registry.
	chunksInFlight = 8
	// wrongFor is how long wrong content is kept in mind, to find out who sent it once the right content is here.
	wrongFor = 10 * time.Minute
	// peerFor is how long it is known that a blob's bytes come from peers: as long as anybody may join its fill.
	peerFor = 10 * time.Minute
)

// sharing reports whether there are peers to exchange content with.
func (m *Mirror) sharing() bool { return m.peers != nil && m.peers.Useful() }

// request is a fill of content of unknown size from a repository, over peers where there are any.
func (m *Mirror) request(ctx context.Context, up *upstream.Registry, repo oci.Repository, d oci.Digest) cache.Request {
	return m.shared(alone(ctx, up, repo, d), repo)
}

// shared is a fill over peers, where there are any. Content of which wrong bytes came a moment ago comes from the registry
// alone.
func (m *Mirror) shared(r cache.Request, repo oci.Repository) cache.Request {
	switch {
	case m.peers == nil:
	case m.sharing() && !m.cache.Suspect(r.Digest):
		m.share(&r, repo)
	default:
		r.Verdict = func(content io.ReaderAt, size int64, right bool) {
			if right { // which is what the wrong bytes of before are compared with
				m.accuse(r.Digest, content, size)
			}
		}
	}
	return r
}

// share lets a fill get its bytes chunk by chunk, from peers or, where this node has to, from the registry.
func (m *Mirror) share(r *cache.Request, repo oci.Repository) {
	d, direct := r.Digest, r.From
	blob := m.peers.Blob(peer.Content{Registry: repo.Registry, Repository: repo.Name, Digest: d}, origin(direct))
	r.Chunk, r.Fetches = m.peers.ChunkSize(), chunksInFlight
	var mistrusted atomic.Bool // wrong bytes came: the fill's next try is with the registry alone
	r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
		if want.End < 0 || mistrusted.Load() {
			return direct(ctx, want) // or the registry has no ranges, and this node was the one to find out
		}
		body, err := blob.Open(ctx, want.Start, want.End)
		if err != nil {
			return nil, relayed(repo, err)
		}
		if blob.Whole() { // whoever asks here must know before it asks for more
			m.wholes.add(d, struct{}{}, peerFor)
		}
		if body.Peer {
			m.fromPeers.add(d, struct{}{}, peerFor)
		}
		return &cache.Stream{
			Body: translated{body, repo}, Start: body.Start, Size: body.Size, Whole: body.Whole,
			Moving: func() bool { return body.Moving() == 1 }, Reject: body.Reject,
		}, nil
	}
	r.Verdict = func(content io.ReaderAt, size int64, right bool) {
		if right || !mistrusted.Swap(true) {
			m.judge(blob, d, content, size, right)
		}
	}
}

// translated gives the errors of a body from peers the meaning that those of an upstream have.
type translated struct {
	*peer.Body
	repo oci.Repository
}

// Read reads on.
func (t translated) Read(p []byte) (int, error) {
	n, err := t.Body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = relayed(t.repo, err)
	}
	return n, err
}

// origin lets peers ask the registry of a fill.
func origin(direct cache.FillFunc) peer.Origin {
	return func(ctx context.Context, start, end int64) (*peer.Stream, error) {
		s, err := direct(ctx, cache.Span{Start: start, End: end})
		if refusalIn(err) != nil {
			return nil, peer.Refused(err)
		}
		if err != nil {
			return nil, err
		}
		return &peer.Stream{Body: s.Body, Start: s.Start, Size: s.Size, Whole: s.Whole, Reject: s.Reject}, nil
	}
}

// relayed gives a refusal of a registry that another member has met the meaning that it has when this node meets it.
func relayed(repo oci.Repository, err error) error {
	refused, ok := errors.AsType[*peer.RefusedError](err)
	switch {
	case ok && refused.Cause != nil:
		return refused.Cause
	case ok:
		err = fmt.Errorf("upstream %s, as peer %s says: %w", repo.Registry, refused.Peer, upstream.Relayed(refused.Status, refused.RetryAfter))
	}
	if _, known := errors.AsType[*sourceError](err); known {
		return err
	}
	return &sourceError{repo, err}
}

// sums are the checksums of the chunks of content that was wrong, and who sent them.
type sums struct {
	of      map[int64]uint32
	senders map[int64]string
}

// castagnoli is the checksum that processors compute themselves.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// judge keeps in mind which chunks of wrong content came from whom. When the right content is here, those that differ tell
// who sent wrong bytes.
func (m *Mirror) judge(blob *peer.Blob, d oci.Digest, content io.ReaderAt, size int64, right bool) {
	if right {
		m.accuse(d, content, size)
		return
	}
	found := sums{of: map[int64]uint32{}, senders: blob.Senders()}
	for chunk := range found.senders {
		found.of[chunk] = m.sum(content, chunk, size)
	}
	m.wrong.add(d, found, wrongFor)
	m.log.Warn("the bytes of a blob did not match its digest, and some came from peers: it is fetched again from the registry alone", "digest", d)
}

// accuse names the peers whose chunks were wrong.
func (m *Mirror) accuse(d oci.Digest, content io.ReaderAt, size int64) {
	before, known := m.wrong.get(d)
	if !known {
		return
	}
	m.wrong.forget(d)
	for chunk, sum := range before.of {
		if m.sum(content, chunk, size) == sum {
			continue
		}
		m.peers.SentWrong()
		m.log.Warn("a peer has sent wrong bytes, its own or ones that it passed on: run mirror verify there, and look after its disk and memory",
			"peer", before.senders[chunk], "digest", d, "bytes", chunk*m.peers.ChunkSize())
	}
}

// sum returns the checksum of a chunk; bytes that cannot be read count as others.
func (m *Mirror) sum(content io.ReaderAt, chunk, size int64) uint32 {
	hash, start := crc32.New(castagnoli), chunk*m.peers.ChunkSize()
	if _, err := io.Copy(hash, io.NewSectionReader(content, start, min(m.peers.ChunkSize(), size-start))); err != nil {
		return 0
	}
	return hash.Sum32()
}

// sourceOfFill says where the bytes of a growing blob come from.
func (m *Mirror) sourceOfFill(d oci.Digest) Source {
	if m.peers != nil && m.fromPeers.has(d) {
		return Peer
	}
	return Upstream
}

// fetchManifest gets the bytes of a manifest: one with a digest from peers where there are any, else from the registry, and
// when that cannot be asked from whoever has it.
func (m *Mirror) fetchManifest(ctx context.Context, up *upstream.Registry, repo oci.Repository, ref oci.Reference) (upstream.Manifest, Source, error) {
	shared := ref.IsDigest() && m.sharing()
	c := peer.Content{Registry: repo.Registry, Repository: repo.Name, Digest: ref.Digest}
	if shared {
		holder, _ := m.tellers.get(ref.Digest)
		got, err := m.peers.Manifest(ctx, c, holder)
		if err == nil && ref.Digest.Verifies(got.Body) {
			return manifestOf(ref.Digest, got), Peer, nil
		}
		if _, refused := errors.AsType[*peer.RefusedError](err); refused {
			return upstream.Manifest{}, Peer, relayed(repo, err)
		}
	}
	got, err := up.Manifest(ctx, repo.Name, ref)
	if err != nil && shared && refusalIn(err) == nil {
		if held := m.peers.HeldManifest(ctx, c); held != nil {
			return manifestOf(ref.Digest, held), Peer, nil
		}
	}
	return got, Upstream, err
}

func manifestOf(d oci.Digest, got *peer.Document) upstream.Manifest {
	return upstream.Manifest{MediaType: got.MediaType, Digest: d, Body: got.Body}
}

// errStaleOwner: the owner of a tag could not check it either.
var errStaleOwner = fmt.Errorf("the owner of the tag among the peers cannot check it: %w", upstream.ErrUnavailable)

// askOwner asks the owner of a tag what it names, once for the whole cluster. The error is peer.ErrOwn when this node has to
// ask the registry.
func (m *Mirror) askOwner(ctx context.Context, up *upstream.Registry, key tagName) (peer.Tag, error) {
	if !m.shareTags || !m.sharing() {
		return peer.Tag{}, peer.ErrOwn
	}
	told, err := m.peers.Tag(ctx, peerTag(key))
	if _, refused := errors.AsType[*peer.RefusedError](err); refused {
		return told, relayed(key.repo, err)
	}
	if err != nil {
		return told, peer.ErrOwn
	}
	if told.Age > up.TagFreshness(key.repo.Name, key.tag).FreshFor {
		return told, errStaleOwner
	}
	m.tellers.add(told.Descriptor.Digest, told.Peer, fetchTimeout)
	return told, nil
}

// askEverybody finds out from any member what a tag names, when the registry cannot be asked and it is not known here.
func (m *Mirror) askEverybody(ctx context.Context, key tagName) (peer.Tag, bool) {
	if !m.shareTags || !m.sharing() {
		return peer.Tag{}, false
	}
	return m.peers.HeldTag(ctx, peerTag(key))
}

func peerTag(key tagName) peer.TagName {
	return peer.TagName{Registry: key.repo.Registry, Repository: key.repo.Name, Tag: key.tag}
}
