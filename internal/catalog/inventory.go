package catalog

import (
	"slices"
	"strings"

	"mirror/internal/oci"
)

// All returns every known repository, sorted by name. Like everything in this file it is good for inspection, not for
// serving requests: nothing is indexed for it.
func (c *Catalog) All() []oci.Repository {
	var names []oci.Repository
	for _, r := range c.allRepositories() {
		names = append(names, r.name)
	}
	sortByName(names)
	return names
}

// Knows reports whether a repository was ever named, and not forgotten since.
func (c *Catalog) Knows(repo oci.Repository) bool { return c.repository(repo) != nil }

// Links returns a copy of what is known of all digests in a repository.
func (c *Catalog) Links(repo oci.Repository) map[oci.Digest]Link {
	r := c.repository(repo)
	if r == nil {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	links := make(map[oci.Digest]Link, r.links.Len())
	for d, l := range r.links.All() {
		links[d] = l.public(c.mediaTypes)
	}
	return links
}

// Repositories returns the repositories that link d, sorted by name. It looks at every repository.
func (c *Catalog) Repositories(d oci.Digest) []oci.Repository {
	return c.Holders([]oci.Digest{d})[d]
}

// Holders returns for each of the digests the repositories that link it, sorted by name. It looks at every repository
// once, so asking for many digests together is cheaper than asking for each.
func (c *Catalog) Holders(digests []oci.Digest) map[oci.Digest][]oci.Repository {
	holders := make(map[oci.Digest][]oci.Repository, len(digests))
	for _, d := range digests {
		holders[d] = nil
	}
	for _, r := range c.allRepositories() {
		r.addTo(holders)
	}
	for _, repositories := range holders {
		sortByName(repositories)
	}
	return holders
}

// addTo adds the repository to the holders of each digest that it links, going through the shorter of the two sets.
func (r *repository) addTo(holders map[oci.Digest][]oci.Repository) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(holders) < r.links.Len() {
		for d := range holders {
			if _, ok := r.links.Get(d); ok {
				holders[d] = append(holders[d], r.name)
			}
		}
		return
	}
	for d := range r.links.All() {
		if known, wanted := holders[d]; wanted {
			holders[d] = append(known, r.name)
		}
	}
}

func sortByName(names []oci.Repository) {
	slices.SortFunc(names, func(a, b oci.Repository) int { return strings.Compare(a.String(), b.String()) })
}
