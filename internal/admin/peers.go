package admin

import (
	"net/netip"

	"mirror/internal/mirror"
	"mirror/internal/peer"
)

// PeersStatus says what is exchanged with the other nodes of the cluster since the start.
type PeersStatus struct {
	In        int64 `json:"in"`        // bytes of blobs that came from peers
	Out       int64 `json:"out"`       // bytes that went to them
	Redirects int64 `json:"redirects"` // times that this node was sent to an earlier asker
	Slow      int64 `json:"slow"`      // peers that another was looked for instead of
	Fallbacks int64 `json:"fallbacks"` // chunks asked of a registry in place of their owner
	Dead      int64 `json:"dead"`      // times that a peer did not answer
	Refused   int64 `json:"refused"`   // gossip and requests that were refused
	Wrong     int64 `json:"wrong"`     // chunks with wrong bytes
	// Members are all nodes of the cluster, this one included, by name.
	Members []MemberStatus `json:"members"`
}

// MemberStatus is one node of the cluster.
type MemberStatus struct {
	Name     string         `json:"name"`
	Zone     string         `json:"zone,omitempty"`
	Transfer netip.AddrPort `json:"transfer"`
	Self     bool           `json:"self,omitempty"`
	// State is "owns", or why it owns nothing: "young", "draining", "disk full", "slow"; or "silent" when it did not answer a
	// moment ago.
	State string `json:"state"`
}

// peersStatus is nil without peers.
func peersStatus(m *mirror.Mirror, n numbers) *PeersStatus {
	members, ok := m.Members()
	if !ok {
		return nil
	}
	bytes := n.by("mirror_peer_bytes_total", "direction")
	s := &PeersStatus{
		In: bytes["in"], Out: bytes["out"],
		Redirects: n.sum("mirror_peer_redirects_total"), Slow: n.sum("mirror_peer_slow_total"),
		Fallbacks: n.sum("mirror_peer_fallbacks_total"), Dead: n.sum("mirror_peer_found_dead_total"),
		Refused: n.sum("mirror_peer_refused_total"), Wrong: n.sum("mirror_peer_wrong_chunks_total"),
		Members: make([]MemberStatus, 0, len(members)),
	}
	for _, one := range members {
		s.Members = append(s.Members, MemberStatus{
			Name: one.Name, Zone: one.Zone, Transfer: one.Transfer, Self: one.Self, State: memberState(one),
		})
	}
	return s
}

func memberState(one peer.Standing) string {
	switch {
	case one.PassedOver:
		return "silent"
	case one.Refuses == 0:
		return "owns"
	}
	return one.Refuses.String()
}
