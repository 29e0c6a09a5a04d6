package mirror

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"mirror/internal/oci"
)

// Image is a tag of a repository, or a manifest that no tag names, with what is held of it.
type Image struct {
	Repository oci.Repository
	Tag        string // empty for a manifest that no tag names
	Descriptor oci.Descriptor
	// CheckedAt is when the upstream last confirmed the tag; zero without one.
	CheckedAt time.Time
	Holding
}

// Subject names the image.
func (i Image) Subject() Subject {
	if i.Tag != "" {
		return Subject{i.Repository, oci.Reference{Tag: i.Tag}}
	}
	return Subject{i.Repository, oci.Reference{Digest: i.Descriptor.Digest}}
}

// Repositories returns the repositories that anything is known of, sorted by name.
func (m *Mirror) Repositories() []oci.Repository { return m.catalog.All() }

// Images returns the images of a repository: first the tags in their order, those too whose content is not held, then the
// manifests that are held, sorted by digest, which neither a tag names nor an index of the repository refers to. It reads
// every manifest that is held of the repository.
func (m *Mirror) Images(repo oci.Repository) []Image {
	named := make(map[oci.Digest]bool)
	tagged := m.taggedImages(repo, named)
	return append(tagged, m.untaggedImages(repo, named)...)
}

// taggedImages adds what it comes across to named.
func (m *Mirror) taggedImages(repo oci.Repository, named map[oci.Digest]bool) (images []Image) {
	for _, tag := range m.catalog.Tags(repo, "", 0) {
		t, ok := m.catalog.Tag(repo, tag)
		if !ok {
			continue // it has gone since
		}
		tree := m.treeOf(t.Descriptor)
		images = append(images, Image{repo, tag, t.Descriptor, t.CheckedAt, tree.holding()})
		for d := range tree.nodes {
			named[d] = true
		}
	}
	return images
}

func (m *Mirror) untaggedImages(repo oci.Repository, named map[oci.Digest]bool) []Image {
	var images []Image
	for d, link := range m.catalog.Links(repo) {
		if content, held := m.cache.Content(d); held && !named[d] && oci.IsManifestType(link.MediaType) {
			images = append(images, Image{Repository: repo, Descriptor: oci.Descriptor{MediaType: link.MediaType, Digest: d, Size: content.Size}})
		}
	}
	for i := range images {
		tree := m.treeOf(images[i].Descriptor)
		images[i].Holding = tree.holding()
		for d := range tree.nodes {
			named[d] = named[d] || d != tree.root
		}
	}
	images = slices.DeleteFunc(images, func(i Image) bool { return named[i.Descriptor.Digest] })
	slices.SortFunc(images, func(a, b Image) int { return a.Descriptor.Digest.Compare(b.Descriptor.Digest) })
	return images
}

// eachManifest calls visit for every manifest that is held and that a repository is known to have, once, with what it
// refers to. It reads all of them.
func (m *Mirror) eachManifest(visit func(oci.Digest, []oci.Descriptor)) {
	seen := make(map[oci.Digest]bool)
	look := func(d oci.Descriptor) {
		if _, held := m.cache.Content(d.Digest); !held || seen[d.Digest] {
			return
		}
		seen[d.Digest] = true
		if children, ok := m.childrenOf(d); ok {
			visit(d.Digest, children)
		}
	}
	for _, repo := range m.catalog.All() {
		m.eachTag(repo, look)
		for d, link := range m.catalog.Links(repo) {
			if oci.IsManifestType(link.MediaType) {
				look(oci.Descriptor{MediaType: link.MediaType, Digest: d})
			}
		}
	}
}

// eachTag calls visit with what each tag of a repository names.
func (m *Mirror) eachTag(repo oci.Repository, visit func(oci.Descriptor)) {
	for _, tag := range m.catalog.Tags(repo, "", 0) {
		if t, ok := m.catalog.Tag(repo, tag); ok {
			visit(t.Descriptor)
		}
	}
}

// CompareImages orders images as lists of them are: by repository, then tags by name, then manifests without a tag by
// digest.
func CompareImages(a, b Subject) int {
	return cmp.Or(
		strings.Compare(a.Repository.String(), b.Repository.String()),
		compareBool(a.Reference.IsDigest(), b.Reference.IsDigest()),
		strings.Compare(a.Reference.Tag, b.Reference.Tag),
		a.Reference.Digest.Compare(b.Reference.Digest),
	)
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
