package mirror

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"mirror/internal/cache"
	"mirror/internal/catalog"
	"mirror/internal/oci"
	"mirror/internal/upstream"
)

const (
	// manifestLimit is the longest manifest in bytes; the distribution specification asks for at least this.
	manifestLimit = 4 << 20
	// fetchTimeout bounds a fetch of a manifest with its retries. Clients wait 30 s for headers (protocol R-34).
	fetchTimeout = 22 * time.Second
)

// Manifest is a manifest or index, whole and verified.
type Manifest struct {
	Descriptor oci.Descriptor
	Body       []byte // shared: never written to
	Outcome    Outcome
	Source     Source
	Warning    string // for a Warning header; empty when there is nothing to say
}

// as returns a copy with another outcome; a Manifest may be shared by all who waited for it.
func (m *Manifest) as(o Outcome, s Source) *Manifest {
	copied := *m
	copied.Outcome, copied.Source = o, s
	return &copied
}

// Manifest returns a manifest of a repository by tag or digest.
func (m *Mirror) Manifest(ctx context.Context, repo oci.Repository, ref oci.Reference) (*Manifest, error) {
	manifest, err := m.manifest(ctx, repo, ref)
	if err != nil {
		m.metrics.lookup(manifestKind, Miss, Upstream)
		return nil, fmt.Errorf("manifest %s of %s: %w", ref, repo, m.offline(repo, ref, err))
	}
	m.metrics.lookup(manifestKind, manifest.Outcome, manifest.Source)
	return manifest, nil
}

func (m *Mirror) manifest(ctx context.Context, repo oci.Repository, ref oci.Reference) (*Manifest, error) {
	up, err := m.registry(repo)
	if err != nil {
		return nil, err
	}
	if ref.IsDigest() {
		return m.byDigest(ctx, up, repo, ref.Digest)
	}
	return m.byTag(ctx, up, tagName{repo, ref.Tag})
}

// byDigest returns a manifest by digest: from the cache if this repository is known to have it, else from the upstream,
// which is asked once however many wait.
func (m *Mirror) byDigest(ctx context.Context, up *upstream.Registry, repo oci.Repository, d oci.Digest) (*Manifest, error) {
	if stored := m.stored(repo, d); stored != nil {
		return stored, nil
	}
	key := name{repo, oci.Reference{Digest: d}, manifestKind}
	if err := m.refusal(key); err != nil {
		return nil, err
	}
	detached := m.detached(ctx)
	f, joined := m.fetches.start(content{repo, d}, &m.running, func() (*Manifest, error) {
		ctx, cancel := context.WithTimeout(detached, fetchTimeout)
		defer cancel()
		if stored := m.stored(repo, d); stored != nil {
			return stored, nil // since the caller looked
		}
		fetched, err := m.fetch(ctx, up, repo, oci.Reference{Digest: d})
		m.noteRefusal(up, key, err)
		return fetched, err
	})
	fetched, err := f.wait(ctx)
	if err != nil {
		return nil, err
	}
	if joined && fetched.Outcome == Miss {
		return fetched.as(Join, fetched.Source), nil
	}
	return fetched, nil
}

// stored reads a manifest from the cache, or returns nil when the upstream has to be asked: it is not there, is not known
// to be the repository's, is no manifest, or cannot be read. A download of the same digest as a blob is not waited for, since it may well end in "not
// found": most registries serve manifests as manifests only.
func (m *Mirror) stored(repo oci.Repository, d oci.Digest) *Manifest {
	link, ok := m.catalog.Link(repo, d)
	if !ok || !m.mayServe(link) {
		return nil
	}
	b, err := m.cache.Open(d)
	if err != nil {
		return nil // the fetch tells what is worth telling
	}
	defer b.Close()
	if b.Tier() == cache.TierSource || b.Size() > manifestLimit {
		return nil
	}
	body, err := verified(b, d)
	if err != nil {
		m.log.Warn("stored manifest is damaged; it is removed and will be fetched again", "repository", repo, "digest", d, "error", err)
		m.cache.Remove(d)
		return nil
	}
	mediaType, ok := typeOf(link, body)
	if !ok {
		return nil
	}
	return &Manifest{
		Descriptor: oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))},
		Body:       body, Outcome: Hit, Source: sourceOf(b.Tier()),
	}
}

// verified returns the whole of stored content. What is in memory was verified when it got there.
func verified(b *cache.Blob, d oci.Digest) ([]byte, error) {
	if body := b.Bytes(); body != nil {
		return body, nil
	}
	buffer := bytes.NewBuffer(make([]byte, 0, b.Size()))
	if _, err := b.WriteRange(buffer, 0, -1); err != nil {
		return nil, err
	}
	if !d.Verifies(buffer.Bytes()) {
		return nil, cache.ErrWrongContent
	}
	return buffer.Bytes(), nil
}

// typeOf returns the media type of content that is linked as a manifest. A type that this program does not know, of an
// artifact, counts when the bytes say the same. What the bytes look like is not enough: the configuration of an image
// looks like a manifest.
func typeOf(link catalog.Link, body []byte) (string, bool) {
	if oci.IsManifestType(link.MediaType) {
		return link.MediaType, true
	}
	parsed, err := oci.ParseManifest("", body)
	return link.MediaType, err == nil && parsed.MediaType == link.MediaType
}

// fetch gets a manifest from the upstream, stores it, and links it and what it names to the repository.
func (m *Mirror) fetch(ctx context.Context, up *upstream.Registry, repo oci.Repository, ref oci.Reference) (*Manifest, error) {
	got, source, err := m.fetchManifest(ctx, up, repo, ref)
	if err != nil {
		return nil, err
	}
	parsed, err := oci.ParseManifest(got.MediaType, got.Body)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", repo.Registry, err)
	}
	if err := m.cache.Put(got.Digest, got.Body); err != nil {
		if held, ok := m.noStore.pass(); ok {
			m.log.Warn("manifest could not be stored and is only passed on", "repository", repo, "digest", got.Digest, "error", err, "held_back", held)
		}
	}
	fetched := &Manifest{
		Descriptor: oci.Descriptor{MediaType: got.MediaType, Digest: got.Digest, Size: int64(len(got.Body))},
		Body:       got.Body, Outcome: Miss, Source: source,
	}
	m.link(repo, fetched, parsed)
	m.pinArrival(repo, got.Digest, parsed.Children)
	m.refused.forget(name{repo, ref, manifestKind})
	m.refused.forget(name{repo, oci.Reference{Digest: got.Digest}, manifestKind})
	return fetched, nil
}

// link connects a manifest that came through the repository, and what it names, with the repository.
func (m *Mirror) link(repo oci.Repository, manifest *Manifest, parsed oci.Manifest) {
	links := make(map[oci.Digest]catalog.Link, 1+len(parsed.Children))
	for _, child := range parsed.Children {
		links[child.Digest] = catalog.Link{MediaType: child.MediaType, Size: child.Size}
	}
	links[manifest.Descriptor.Digest] = catalog.Link{
		MediaType: manifest.Descriptor.MediaType, Size: manifest.Descriptor.Size, Confirmed: true,
	}
	m.catalog.SetLinks(repo, links)
}
