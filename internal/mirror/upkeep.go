package mirror

import (
	"fmt"
	"time"

	"mirror/internal/oci"
)

// What was ever pulled would be remembered for ever without these: names are small, but there is no end of them.
const (
	// upkeepEvery is how often all names are compared with what is held.
	upkeepEvery = 6 * time.Hour
	// linkPatience is how long content must have been out of the cache for its links to be forgotten. It is short because
	// little is lost, and because a restart begins anew.
	linkPatience = 48 * time.Hour
	// upkeepPause comes after each repository, so that a million links are a trickle of work and not a burst.
	upkeepPause = 20 * time.Millisecond
)

// keepNames forgets, until Close, names whose content is gone.
func (m *Mirror) keepNames() {
	for m.pause(upkeepEvery) {
		m.pruneNames(linkPatience, upkeepPause)
	}
}

// pruneNames looks at every repository once.
func (m *Mirror) pruneNames(patience, pause time.Duration) {
	dropped := 0
	for _, repo := range m.catalog.All() {
		if !m.pause(pause) {
			return
		}
		dropped += m.pruneTags(repo)
		dropped += m.catalog.Prune(repo, patience, m.isHere)
	}
	if dropped > 0 {
		m.log.Info(fmt.Sprintf("forgot %d names whose content has left the cache", dropped))
	}
}

// pause waits, and reports whether there is still somebody to work for.
func (m *Mirror) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return m.ctx.Err() == nil
	case <-m.ctx.Done():
		return false
	}
}

// isHere reports whether content is held.
func (m *Mirror) isHere(d oci.Digest) bool {
	_, ok := m.cache.Stat(d)
	return ok
}

// pruneTags forgets tags that are of no use to anybody: the content is gone, and what they say is too old to be served
// while the upstream is down.
func (m *Mirror) pruneTags(repo oci.Repository) (dropped int) {
	for _, tag := range m.catalog.Tags(repo, "", 0) {
		t, ok := m.catalog.Tag(repo, tag)
		if !ok || m.isHere(t.Descriptor.Digest) || time.Since(t.CheckedAt) < m.staleFor(repo) {
			continue
		}
		if err := m.catalog.DeleteTag(repo, tag); err != nil {
			m.log.Warn("old tag could not be forgotten; that is tried again later", "repository", repo, "reference", tag, "error", err)
			return dropped
		}
		dropped++
	}
	return dropped
}

// staleFor is how long a tag of a repository may be served unchecked. Of a registry that is not configured any more
// nothing is served, and its tags are kept as long as links, in case it comes back.
func (m *Mirror) staleFor(repo oci.Repository) time.Duration {
	if up, ok := m.registries[repo.Registry]; ok {
		return up.Freshness().StaleFor
	}
	return linkPatience
}
