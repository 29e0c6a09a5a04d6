package mirror

import (
	"slices"

	"mirror/internal/cache"
	"mirror/internal/oci"
)

// Content is content that is held, and the repositories that are known to have it.
type Content struct {
	cache.Content
	Repositories []oci.Repository
}

// Selection says which contents to list.
type Selection struct {
	// Repository selects what it is known to have, unless it is zero.
	Repository oci.Repository
	// Unreferenced selects what no manifest that is held refers to.
	Unreferenced bool
	// After selects digests after this one, and Limit is how many to list at most, in the order of digests. With a Limit of
	// zero everything is listed, in no order.
	After oci.Digest
	Limit int
}

// listChunk is how many contents are looked up in the catalog at once, which looks at every link each time: twenty times for
// a million blobs. A chunk takes some ten megabytes.
const listChunk = 50_000

// Contents calls visit for the selected contents until it returns an error, which Contents returns too. Memory is needed
// for one chunk or page, and a few bytes for each content when it has to be known what is referred to.
func (m *Mirror) Contents(s Selection, visit func(Content) error) (err error) {
	if s.Limit > 0 {
		return m.holders(m.page(s), visit)
	}
	var chunk []cache.Content
	m.selected(s, func(c cache.Content) {
		if err != nil {
			return // nobody reads it, and the walk is short
		}
		if chunk = append(chunk, c); len(chunk) == listChunk {
			err = m.holders(chunk, visit)
			chunk = chunk[:0]
		}
	})
	if err != nil {
		return err
	}
	return m.holders(chunk, visit)
}

// page returns the first contents of a selection in the order of digests.
func (m *Mirror) page(s Selection) []cache.Content {
	var page []cache.Content
	byDigest := func(a, b cache.Content) int { return a.Digest.Compare(b.Digest) }
	m.selected(s, func(c cache.Content) {
		at, _ := slices.BinarySearchFunc(page, c, byDigest)
		if at == s.Limit {
			return
		}
		page = slices.Insert(page, at, c)
		page = page[:min(len(page), s.Limit)]
	})
	return page
}

// selected calls visit for what a selection selects, its limit aside, in no order.
func (m *Mirror) selected(s Selection, visit func(cache.Content)) {
	referenced := func(oci.Digest) bool { return false }
	if s.Unreferenced {
		referenced = m.referenced()
	}
	pass := func(c cache.Content) {
		if c.Digest.Compare(s.After) > 0 && !referenced(c.Digest) {
			visit(c)
		}
	}
	if s.Repository == (oci.Repository{}) {
		m.cache.Contents(pass)
		return
	}
	for d := range m.catalog.Links(s.Repository) {
		if c, held := m.cache.Content(d); held {
			pass(c)
		}
	}
}

// holders completes contents by their repositories.
func (m *Mirror) holders(contents []cache.Content, visit func(Content) error) error {
	digests := make([]oci.Digest, len(contents))
	for i, c := range contents {
		digests[i] = c.Digest
	}
	holders := m.catalog.Holders(digests)
	for _, c := range contents {
		if err := visit(Content{c, holders[c.Digest]}); err != nil {
			return err
		}
	}
	return nil
}

// referenced returns a function that tells whether a manifest that is held refers to content, or the content is such a
// manifest. It remembers eight bytes of each digest: whoever makes two that agree in those hides content of his own from a
// list.
func (m *Mirror) referenced() func(oci.Digest) bool {
	known := make(map[uint64]struct{})
	m.eachManifest(func(d oci.Digest, children []oci.Descriptor) {
		known[d.Sum64()] = struct{}{}
		for _, child := range children {
			known[child.Digest.Sum64()] = struct{}{}
		}
	})
	return func(d oci.Digest) bool {
		_, ok := known[d.Sum64()]
		return ok
	}
}

// Unreferenced counts the content that no manifest which is held refers to: blobs, and their bytes. It reads all
// manifests.
func (m *Mirror) Unreferenced() (blobs int, bytes int64) {
	m.selected(Selection{Unreferenced: true}, func(c cache.Content) {
		blobs++
		bytes += c.Size
	})
	return blobs, bytes
}
