package mirror

import (
	"mirror/internal/cache"
	"mirror/internal/oci"
	"mirror/internal/upstream"
)

// Fill is a download that is running, and the repositories that are known to have its content.
type Fill struct {
	cache.Progress
	Repositories []oci.Repository
}

// Fills returns the downloads that are running, in no order.
func (m *Mirror) Fills() []Fill {
	running := m.cache.Filling()
	digests := make([]oci.Digest, len(running))
	for i, p := range running {
		digests[i] = p.Digest
	}
	holders := m.catalog.Holders(digests)
	fills := make([]Fill, len(running))
	for i, p := range running {
		fills[i] = Fill{p, holders[p.Digest]}
	}
	return fills
}

// Upstreams returns how each upstream is doing, in the order of the configuration.
func (m *Mirror) Upstreams() []upstream.Health {
	var all []upstream.Health
	for _, r := range m.upstreams.All() {
		all = append(all, r.Health())
	}
	return all
}
