package mirror

import (
	"bytes"
	"context"
	"errors"
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
		return nil, fmt.Errorf("manifest %s of %s: %w", ref, repo, err)
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
	if link, ok := m.catalog.Link(repo, d); ok && mayServe(up, link) {
		if stored, err := m.stored(ctx, repo, d, link); err == nil {
			return stored, nil
		} else if !errors.Is(err, cache.ErrNotFound) && !storeTrouble(err) {
			return nil, err
		}
	}
	key := name{repo, oci.Reference{Digest: d}}
	if m.missing.has(key) {
		return nil, errMissing(repo)
	}
	f, joined := m.fetches.start(content{repo, d}, &m.running, func() (*Manifest, error) {
		ctx, cancel := context.WithTimeout(m.ctx, fetchTimeout)
		defer cancel()
		fetched, err := m.fetch(ctx, up, repo, oci.Reference{Digest: d})
		m.noteMissing(up, key, err)
		return fetched, err
	})
	fetched, err := f.wait(ctx)
	if err != nil {
		return nil, err
	}
	if joined {
		return fetched.as(Join, Upstream), nil
	}
	return fetched, nil
}

// stored reads a manifest from the cache. Content that is there and is no manifest is not found, as a manifest.
func (m *Mirror) stored(ctx context.Context, repo oci.Repository, d oci.Digest, link catalog.Link) (*Manifest, error) {
	b, err := m.cache.Open(d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if err := b.Ready(ctx); err != nil {
		return nil, err
	}
	if b.Size() < 0 || b.Size() > manifestLimit {
		return nil, cache.ErrNotFound
	}
	body := b.Bytes()
	if body == nil {
		buffer := bytes.NewBuffer(make([]byte, 0, b.Size()))
		if _, err := b.WriteRange(buffer, 0, -1); err != nil {
			return nil, err
		}
		body = buffer.Bytes()
	}
	mediaType, err := m.typeOf(repo, d, link, body)
	if err != nil {
		return nil, cache.ErrNotFound
	}
	return &Manifest{
		Descriptor: oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))},
		Body:       body, Outcome: Hit, Source: sourceOf(b.Tier()),
	}, nil
}

// typeOf returns the media type that is remembered with the link, or finds it out and remembers it.
func (m *Mirror) typeOf(repo oci.Repository, d oci.Digest, link catalog.Link, body []byte) (string, error) {
	if oci.IsManifestType(link.MediaType) {
		return link.MediaType, nil
	}
	parsed, err := oci.ParseManifest("", body)
	if err != nil {
		return "", err
	}
	m.link(repo, &Manifest{Descriptor: oci.Descriptor{MediaType: parsed.MediaType, Digest: d, Size: int64(len(body))}}, parsed, link.Confirmed)
	return parsed.MediaType, nil
}

// fetch gets a manifest from the upstream, stores it, and links it and what it names to the repository.
func (m *Mirror) fetch(ctx context.Context, up *upstream.Registry, repo oci.Repository, ref oci.Reference) (*Manifest, error) {
	got, err := up.Manifest(ctx, repo.Name, ref)
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
		Body:       got.Body, Outcome: Miss, Source: Upstream,
	}
	m.link(repo, fetched, parsed, true)
	m.missing.forget(name{repo, ref})
	return fetched, nil
}

// link connects a manifest and what it names with the repository.
func (m *Mirror) link(repo oci.Repository, manifest *Manifest, parsed oci.Manifest, confirmed bool) {
	links := make(map[oci.Digest]catalog.Link, 1+len(parsed.Children))
	for _, child := range parsed.Children {
		links[child.Digest] = catalog.Link{MediaType: child.MediaType, Size: child.Size}
	}
	links[manifest.Descriptor.Digest] = catalog.Link{
		MediaType: manifest.Descriptor.MediaType, Size: manifest.Descriptor.Size, Confirmed: confirmed,
	}
	m.catalog.SetLinks(repo, links)
}
