package catalog

import (
	"fmt"
	"time"

	"mirror/internal/oci"
)

// RemoveRepository forgets a repository: its tags, its links and its lists. It waits for the disk like SetTag; after an
// error the write will be tried again, without telling. Forgetting what is not known is no error. A crash in the middle
// leaves records whose number nobody has; Open removes them.
func (c *Catalog) RemoveRepository(repo oci.Repository) error {
	r := c.repository(repo)
	if r == nil {
		return nil
	}
	r.change(r.clearLocked)
	c.withdraw(r)
	if err := c.queue.addAndWait(r); err != nil {
		return fmt.Errorf("remove repository %s: %w", repo, err)
	}
	return nil
}

// clearLocked makes the repository gone, with everything that it had noted for removal.
func (r *repository) clearLocked() {
	r.noteAllLocked()
	clear(r.tags)
	r.links = oci.DigestMap[link]{}
	r.gone.Store(true)
}

// withdraw takes a repository that is gone out of the table. Its number stays taken until a restart, because its records
// are removed later.
func (c *Catalog) withdraw(r *repository) {
	c.mu.Lock()
	if c.repositories[r.name] == r {
		delete(c.repositories, r.name)
	}
	c.mu.Unlock()
	c.lists.removeAll(r.id)
}

// Prune forgets links of a repository whose content is not held: those for which held says so now and has said so in
// every call since patience or longer ago. That somebody calls often is the caller's business; a restart begins anew. A
// repository of which nothing is left is forgotten as well. Forgetting is harmless at any time: whoever asks for the
// content again costs one question to its upstream. Prune returns how many links it has dropped. held is called outside
// of all locks.
func (c *Catalog) Prune(repo oci.Repository, patience time.Duration, held func(oci.Digest) bool) (dropped int) {
	r := c.repository(repo)
	if r == nil {
		return 0
	}
	now := time.Now()
	dropped = r.prune(hours(now), hours(now.Add(-patience)), held)
	if dropped > 0 {
		c.queue.addLazily(r)
	}
	c.forgetEmpty(r)
	return dropped
}

// prune marks what is absent now, and drops what has been since oldest.
func (r *repository) prune(now, oldest uint32, held func(oci.Digest) bool) (dropped int) {
	for _, a := range r.absences() {
		here := held(a.digest)
		switch {
		case !here && a.since != 0 && a.since <= oldest:
			if r.unlinkAbsent(a) {
				dropped++
			}
		case !here && a.since == 0:
			r.mark(a, now)
		case here && a.since != 0:
			r.mark(a, 0)
		}
	}
	return dropped
}

func hours(t time.Time) uint32 { return uint32(max(1, t.Unix()/3600)) }

// absence is a link and since when its content is known not to be held.
type absence struct {
	digest oci.Digest
	since  uint32
}

func (r *repository) absences() []absence {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]absence, 0, r.links.Len())
	for d, l := range r.links.All() {
		all = append(all, absence{d, l.absent})
	}
	return all
}

// mark notes since when content is absent, unless the link has changed.
func (r *repository) mark(a absence, since uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l, ok := r.links.Get(a.digest); ok && l.absent == a.since {
		l.absent = since
		r.links.Set(a.digest, l)
	}
}

// unlinkAbsent is unlink, unless the link has changed.
func (r *repository) unlinkAbsent(a absence) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, ok := r.links.Get(a.digest)
	if !ok || l.absent != a.since {
		return false
	}
	r.links.Delete(a.digest)
	r.unsaved.links[a.digest] = struct{}{}
	return true
}

// forgetEmpty forgets a repository of which nothing is left.
func (c *Catalog) forgetEmpty(r *repository) {
	if r.tagCount()+r.linkCount() > 0 || c.lists.hasAny(r.id) {
		return
	}
	r.change(func() {
		if len(r.tags)+r.links.Len() == 0 { // still
			r.clearLocked()
		}
	})
	if r.gone.Load() {
		c.withdraw(r)
		c.queue.addLazily(r)
	}
}
