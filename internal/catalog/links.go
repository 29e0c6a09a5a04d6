package catalog

import "mirror/internal/oci"

// Link says that a digest may be read through a repository.
type Link struct {
	// MediaType is the content's type, empty when it is not known.
	MediaType string
	// Size is the content's length in bytes, -1 when it is not known.
	Size int64
	// Confirmed means that the bytes came through this repository, or that the upstream said that the repository holds
	// them. Without it only a manifest names the digest, which proves nothing: a manifest may name what belongs to others.
	Confirmed bool
}

// link is a Link in sixteen bytes without pointers.
type link struct {
	size      int64
	mediaType uint16
	confirmed bool
	// absent is since when the content is known not to be held, in hours since 1970; zero when it is, or nobody has looked
	// (Prune). Only memory has it.
	absent uint32
}

func (l link) public(types *mediaTypes) Link {
	return Link{MediaType: types.name(l.mediaType), Size: l.size, Confirmed: l.confirmed}
}

func (l Link) private(types *mediaTypes) link {
	return link{size: max(l.Size, -1), mediaType: types.number(l.MediaType), confirmed: l.Confirmed}
}

// merge returns what is known after learning news. What was known stays known, and what was confirmed is not replaced by
// what a manifest merely claims.
func (l link) merge(news link) link {
	better, other := news, l
	if l.confirmed && !news.confirmed {
		better, other = l, news
	}
	if better.size < 0 {
		better.size = other.size
	}
	if better.mediaType == 0 {
		better.mediaType = other.mediaType
	}
	better.absent = 0 // somebody cares again
	return better
}

// Link returns what is known of a digest in a repository, from memory and without allocating. Without a link the
// repository has not shown the digest, whoever else may hold it.
func (c *Catalog) Link(repo oci.Repository, d oci.Digest) (Link, bool) {
	r := c.repository(repo)
	if r == nil {
		return Link{}, false
	}
	l, ok := r.link(d)
	if !ok {
		return Link{}, false
	}
	return l.public(c.mediaTypes), true
}

// SetLinks adds to what is known of the digests in a repository. It never takes back a confirmation, a size or a media
// type. Memory has it at once, the disk soon: a crash may lose it unless a SetTag came after it.
func (c *Catalog) SetLinks(repo oci.Repository, links map[oci.Digest]Link) {
	if len(links) == 0 {
		return
	}
	changed := false
	r := c.change(repo, func(r *repository) {
		for d, l := range links {
			// The zero digest names nothing, and could not be read back.
			if !d.IsZero() && r.setLinkLocked(d, l.private(c.mediaTypes)) {
				changed = true
			}
		}
	})
	if changed {
		c.queue.add(r)
	}
}

// Unlink forgets that a repository has shown a digest. Memory forgets at once, the disk soon.
func (c *Catalog) Unlink(repo oci.Repository, d oci.Digest) {
	r := c.repository(repo)
	if r != nil && r.unlink(d) {
		c.queue.add(r)
	}
}

func (r *repository) link(d oci.Digest) (link, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.links.Get(d)
}

// setLinkLocked reports whether it changed something that the disk should know. Most manifests are served more than once,
// and say nothing new.
func (r *repository) setLinkLocked(d oci.Digest, l link) bool {
	old, ok := r.links.Get(d)
	if ok {
		l = old.merge(l)
	}
	if ok && l == old {
		return false
	}
	r.links.Set(d, l)
	old.absent = 0
	if ok && l == old {
		return false
	}
	r.unsaved.links[d] = struct{}{}
	return true
}

func (r *repository) unlink(d oci.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.links.Get(d); !ok {
		return false
	}
	r.links.Delete(d)
	r.unsaved.links[d] = struct{}{}
	return true
}

func (r *repository) linkCount() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.links.Len()
}
