package mirror

import (
	"fmt"

	"mirror/internal/oci"
)

// Freed says what a removal has removed.
type Freed struct {
	Blobs int   // manifests included
	Bytes int64 // of room, free at once
}

// Remove removes what an operator names, and the content that nothing else needs. A tag goes with its manifest and what only
// that refers to, unless another tag or a manifest that is held refers to it. A digest goes, whoever refers to it, with what
// only it refers to. What is pinned, or belongs to what is pinned, stays; to name it is ErrPinned. What is not here is
// ErrNotHeld. Fills that are running and readers are not disturbed.
//
// Once Remove returns, the removal survives a crash. One in the middle may leave content without a tag, which is listed as
// such and can be removed again.
func (m *Mirror) Remove(s Subject) (Freed, error) {
	m.managing.Lock()
	defer m.managing.Unlock()
	root, err := m.find(s)
	if err != nil {
		return Freed{}, err
	}
	if content, _ := m.cache.Content(root.Digest); content.Pinned {
		return Freed{}, fmt.Errorf("%s %w", s, ErrPinned)
	}
	if s.Reference.IsDigest() {
		return m.discard(m.doomed(m.treeOf(root), true)), nil
	}
	if err := m.catalog.DeleteTag(s.Repository, s.Reference.Tag); err != nil {
		return Freed{}, err
	}
	return m.discard(m.doomed(m.treeOf(root), false)), nil
}

// find returns what an operator names: what a known tag points at, held or not, or content that is held.
func (m *Mirror) find(s Subject) (oci.Descriptor, error) {
	if !s.Reference.IsDigest() {
		tag, ok := m.catalog.Tag(s.Repository, s.Reference.Tag)
		if !ok {
			return oci.Descriptor{}, fmt.Errorf("%s %w", s, ErrNotHeld)
		}
		return tag.Descriptor, nil
	}
	d := s.Reference.Digest
	content, held := m.cache.Content(d)
	mediaType, linked := m.mediaTypeOf(s.Repository, d)
	if !held || !linked && s.Repository != (oci.Repository{}) {
		return oci.Descriptor{}, fmt.Errorf("%s %w", s, ErrNotHeld)
	}
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: content.Size}, nil
}

// mediaTypeOf returns the type under which a repository knows content, any repository if repo is zero, and whether one
// does.
func (m *Mirror) mediaTypeOf(repo oci.Repository, d oci.Digest) (mediaType string, known bool) {
	holders := []oci.Repository{repo}
	if repo == (oci.Repository{}) {
		holders = m.catalog.Repositories(d)
	}
	for _, holder := range holders {
		link, ok := m.catalog.Link(holder, d)
		known = known || ok
		if link.MediaType != "" {
			return link.MediaType, true
		}
	}
	return "", known
}

// doomed returns what of a tree nothing outside of it needs: no tag, no pin and no manifest that is held. With force the
// root is doomed whoever needs it.
func (m *Mirror) doomed(t *tree, force bool) []oci.Digest {
	kept := make(map[oci.Digest]bool)
	keep := func(d oci.Descriptor) {
		if t.nodes[d.Digest] != nil && (d.Digest != t.root || !force) {
			kept[d.Digest] = true
		}
	}
	for _, repo := range m.catalog.All() {
		m.eachTag(repo, keep)
	}
	for d, n := range t.nodes {
		if n.content.Pinned {
			keep(oci.Descriptor{Digest: d})
		}
	}
	m.keepReferenced(t, keep)
	kept = t.closed(kept)
	var doomed []oci.Digest
	for d := range t.nodes {
		if !kept[d] {
			doomed = append(doomed, d)
		}
	}
	return doomed
}

// keepReferenced keeps what manifests outside of the tree refer to. Those inside need no look: what they refer to stays if
// they do.
func (m *Mirror) keepReferenced(t *tree, keep func(oci.Descriptor)) {
	m.eachManifest(func(d oci.Digest, children []oci.Descriptor) {
		if t.nodes[d] != nil {
			return
		}
		for _, child := range children {
			keep(child)
		}
	})
}

// discard removes contents, and every link to what it has removed. Forgetting a link costs a question to the upstream at
// most, if the content comes back through another repository.
func (m *Mirror) discard(doomed []oci.Digest) Freed {
	removed, bytes := m.cache.RemoveAll(doomed)
	for d, holders := range m.catalog.Holders(removed) {
		for _, repo := range holders {
			m.catalog.Unlink(repo, d)
		}
	}
	return Freed{Blobs: len(removed), Bytes: bytes}
}

// RemoveRepository removes a repository: its tags, what is known of it, and the content that no other repository is known
// to have. Its content that is pinned has to be unpinned first (ErrPinned).
func (m *Mirror) RemoveRepository(repo oci.Repository) (Freed, error) {
	m.managing.Lock()
	defer m.managing.Unlock()
	if !m.catalog.Knows(repo) {
		return Freed{}, fmt.Errorf("repository %s %w", repo, ErrNotHeld)
	}
	own, err := m.ownedBy(repo)
	if err != nil {
		return Freed{}, err
	}
	if err := m.catalog.RemoveRepository(repo); err != nil {
		return Freed{}, err
	}
	return m.discard(own), nil
}

// ownedBy returns what is held and no other repository links. Something pinned among it is an error.
func (m *Mirror) ownedBy(repo oci.Repository) ([]oci.Digest, error) {
	var linked []oci.Digest
	for d := range m.catalog.Links(repo) {
		if _, held := m.cache.Content(d); held {
			linked = append(linked, d)
		}
	}
	var own []oci.Digest
	for d, holders := range m.catalog.Holders(linked) {
		if len(holders) > 1 {
			continue
		}
		if content, _ := m.cache.Content(d); content.Pinned {
			return nil, fmt.Errorf("%s %w", Subject{repo, oci.Reference{Digest: d}}, ErrPinned)
		}
		own = append(own, d)
	}
	return own, nil
}
