package mirror

import (
	"fmt"

	"mirror/internal/oci"
)

// Pinned says what a pin covers.
type Pinned struct {
	Digest oci.Digest // what was named
	Blobs  int        // held, manifests included
	Bytes  int64      // of what is held
}

// Pin keeps what an operator names from being evicted, with everything that it refers to. What of that is not held yet is
// pinned when it comes: content by its digest, and what a manifest refers to when the manifest comes. A tag is pinned as
// the manifest that it names now. What is not held is ErrNotHeld. Pins survive restarts.
func (m *Mirror) Pin(s Subject) (Pinned, error) {
	m.managing.Lock()
	defer m.managing.Unlock()
	root, err := m.findHeld(s)
	if err != nil {
		return Pinned{}, err
	}
	t := m.treeOf(root)
	for known := 0; known < len(t.nodes); t = m.treeOf(root) { // a manifest that comes meanwhile may have found no pin
		known = len(t.nodes)
		if err := m.cache.Pin(t.digests()...); err != nil {
			return Pinned{}, fmt.Errorf("pin %s: %w", s, err)
		}
	}
	h := t.holding()
	return Pinned{root.Digest, h.Manifests.Held + h.Blobs.Held, h.Size}, nil
}

// Unpin takes a pin back, with everything that belongs to it, unless another manifest that is pinned refers to it. To name
// content that is kept for that reason, or that is not pinned at all, is ErrNotPinned.
func (m *Mirror) Unpin(s Subject) (Pinned, error) {
	m.managing.Lock()
	defer m.managing.Unlock()
	root, err := m.findHeld(s)
	if err != nil {
		return Pinned{}, err
	}
	t := m.treeOf(root)
	if !t.nodes[t.root].content.Pinned {
		return Pinned{}, fmt.Errorf("%s %w", s, ErrNotPinned)
	}
	kept, by := m.pinnedFromOutside(t)
	if kept[t.root] {
		return Pinned{}, fmt.Errorf("%s %w; it belongs to %s, which is pinned", s, ErrNotPinned, by)
	}
	released := Pinned{Digest: t.root}
	var digests []oci.Digest
	for d, n := range t.nodes {
		if kept[d] {
			continue
		}
		digests = append(digests, d)
		if n.held {
			released.Blobs++
			released.Bytes += n.content.Size
		}
	}
	if err := m.cache.Unpin(digests...); err != nil {
		return Pinned{}, fmt.Errorf("unpin %s: %w", s, err)
	}
	return released, nil
}

// pinnedFromOutside returns what of a tree pinned manifests outside of it refer to, and one of those that refers to the
// root.
func (m *Mirror) pinnedFromOutside(t *tree) (kept map[oci.Digest]bool, by oci.Digest) {
	kept = make(map[oci.Digest]bool)
	m.eachManifest(func(d oci.Digest, children []oci.Descriptor) {
		content, _ := m.cache.Content(d)
		if t.nodes[d] != nil || !content.Pinned {
			return
		}
		for _, child := range children {
			if t.nodes[child.Digest] != nil {
				kept[child.Digest] = true
			}
			if child.Digest == t.root {
				by = d
			}
		}
	})
	return t.closed(kept), by
}

// findHeld is find for content that must be held.
func (m *Mirror) findHeld(s Subject) (oci.Descriptor, error) {
	root, err := m.find(s)
	if err != nil {
		return root, err
	}
	if _, held := m.cache.Content(root.Digest); !held {
		return root, fmt.Errorf("%s %w", s, ErrNotHeld)
	}
	return root, nil
}

// pinArrival pins what a manifest refers to that has just come, if the manifest was pinned ahead.
func (m *Mirror) pinArrival(repo oci.Repository, d oci.Digest, children []oci.Descriptor) {
	if content, _ := m.cache.Content(d); !content.Pinned {
		return
	}
	digests := make([]oci.Digest, len(children))
	for i, child := range children {
		digests[i] = child.Digest
	}
	if err := m.cache.Pin(digests...); err != nil {
		m.log.Warn("manifest is pinned, what it refers to could not be: pin it again", "repository", repo, "digest", d, "error", err)
	}
}
