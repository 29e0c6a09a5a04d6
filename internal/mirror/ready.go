package mirror

import (
	"context"

	"mirror/internal/catalog"
	"mirror/internal/oci"
	"mirror/internal/upstream"
)

// ReadyManifest returns a manifest that can be served as it is without asking or waiting for anybody: its content is in memory,
// and its tag fresh. Whoever serves it says so by TookManifest. For all others ok is false: Manifest tells more.
func (m *Mirror) ReadyManifest(repo oci.Repository, ref oci.Reference) (manifest Manifest, ok bool) {
	up, err := m.registry(repo)
	if err != nil {
		return Manifest{}, false
	}
	d := ref.Digest
	if !ref.IsDigest() {
		if d, ok = m.freshTag(up, tagName{repo, ref.Tag}); !ok {
			return Manifest{}, false
		}
	}
	link, body := m.inMemory(repo, d)
	if body == nil || len(body) > manifestLimit {
		return Manifest{}, false
	}
	mediaType, ok := typeOf(link, body)
	if !ok {
		return Manifest{}, false
	}
	return Manifest{
		Descriptor: oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))},
		Body:       body, Outcome: Hit, Source: Memory,
	}, true
}

// freshTag returns what a tag names if nobody need be asked, nor will soon.
func (m *Mirror) freshTag(up *upstream.Registry, key tagName) (d oci.Digest, ok bool) {
	if up.Offline() {
		return d, false // such a tag is served as stale
	}
	tag, known := m.catalog.Tag(key.repo, key.tag)
	return tag.Descriptor.Digest, m.trusted(up, key, tag, known) == fresh
}

// inMemory returns content that is in memory and may be served through a repository, or nil, and how the two are linked.
func (m *Mirror) inMemory(repo oci.Repository, d oci.Digest) (catalog.Link, []byte) {
	link, ok := m.catalog.Link(repo, d)
	if !ok || !m.mayServe(link) {
		return link, nil
	}
	return link, m.cache.Memory(d)
}

// TookManifest counts the lookup of a ready manifest. wanted says that a client gets the bytes, and not only their length.
func (m *Mirror) TookManifest(ctx context.Context, repo oci.Repository, manifest *Manifest, wanted bool) {
	m.metrics.lookup(manifestKind, manifest.Outcome, manifest.Source)
	if wanted {
		m.Pulled(ctx, repo, manifest)
	}
}

// ReadyBlob is ReadyManifest for a blob: its bytes when it is in memory, else, if a file will do, the blob open, which the caller
// closes. Both are nil for all others.
func (m *Mirror) ReadyBlob(repo oci.Repository, d oci.Digest, fileWillDo bool) (body []byte, file *Blob) {
	if _, err := m.registry(repo); err != nil {
		return nil, nil
	}
	link, ok := m.catalog.Link(repo, d)
	if !ok || !m.mayServe(link) {
		return nil, nil
	}
	if body = m.cache.Memory(d); body != nil || !fileWillDo {
		return body, nil
	}
	b, err := m.cache.Stored(d)
	if err != nil {
		return nil, nil // Blob finds the same, and what to do
	}
	return nil, &Blob{Blob: b, Outcome: Hit, Source: sourceOf(b.Tier())}
}

// TookBlob is TookManifest for a blob.
func (m *Mirror) TookBlob(d oci.Digest, source Source, wanted bool) {
	m.metrics.lookup(blobKind, Hit, source)
	if wanted {
		m.prefetch.unread.asked(d)
	}
}
