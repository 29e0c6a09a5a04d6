package mirror

import (
	"context"

	"mirror/internal/oci"
)

// ReadyManifest returns a manifest that can be served as it is without asking or waiting for anybody: its content is in memory,
// and its tag fresh. Whoever serves it says so by TookManifest. For all others ok is false: Manifest tells more.
func (m *Mirror) ReadyManifest(repo oci.Repository, ref oci.Reference) (manifest Manifest, ok bool) {
	d := ref.Digest
	if !ref.IsDigest() {
		if d, ok = m.freshTag(tagName{repo, ref.Tag}); !ok {
			return Manifest{}, false
		}
	}
	link, ok := m.catalog.Link(repo, d)
	if !ok || !m.readable(repo) || !m.mayServe(link) {
		return Manifest{}, false
	}
	body := m.cache.Memory(d)
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
func (m *Mirror) freshTag(key tagName) (d oci.Digest, ok bool) {
	up, ok := m.registries[key.repo.Registry]
	if !ok || up.Offline() {
		return d, false
	}
	tag, known := m.catalog.Tag(key.repo, key.tag)
	return tag.Descriptor.Digest, m.trusted(up, key, tag, known) == fresh
}

// readable reports whether a repository may be pulled at all.
func (m *Mirror) readable(repo oci.Repository) bool {
	up, ok := m.registries[repo.Registry]
	return ok && up.Allows(repo.Name)
}

// TookManifest counts the lookup of a ready manifest. wanted says that a client gets the bytes, and not only their length.
func (m *Mirror) TookManifest(ctx context.Context, repo oci.Repository, manifest *Manifest, wanted bool) {
	m.metrics.lookup(manifestKind, manifest.Outcome, manifest.Source)
	if wanted {
		m.Pulled(ctx, repo, manifest)
	}
}

// ReadyBlob is ReadyManifest for a blob. It returns nil for all others.
func (m *Mirror) ReadyBlob(repo oci.Repository, d oci.Digest) []byte {
	link, ok := m.catalog.Link(repo, d)
	if !ok || !m.readable(repo) || !m.mayServe(link) {
		return nil
	}
	return m.cache.Memory(d)
}

// TookBlob is TookManifest for a blob.
func (m *Mirror) TookBlob(d oci.Digest, wanted bool) {
	m.metrics.lookup(blobKind, Hit, Memory)
	if wanted {
		m.prefetch.unread.asked(d)
	}
}
