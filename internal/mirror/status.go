package mirror

import (
	"mirror/internal/cache"
	"mirror/internal/oci"
	"mirror/internal/peer"
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

// UpstreamCondition is how an upstream is doing, and what is fetched of it ahead of clients.
type UpstreamCondition struct {
	upstream.Condition
	Prefetch Prefetch
}

// Prefetch says what is being fetched that nobody had asked for when it began.
type Prefetch struct {
	Enabled bool // in the configuration
	Fills   int  // fills that are running
	Planned int  // contents that wait for their fill to begin
}

// Upstreams returns how each upstream is doing, in the order of the configuration.
func (m *Mirror) Upstreams() []UpstreamCondition {
	var all []UpstreamCondition
	for _, r := range m.upstreams.All() {
		all = append(all, UpstreamCondition{r.Condition(), m.prefetch.state(r)})
	}
	return all
}

// Members lists the nodes of the cluster. ok is false without peers.
func (m *Mirror) Members() (members []peer.Standing, ok bool) {
	if m.peers == nil {
		return nil, false
	}
	return m.peers.Members(), true
}
