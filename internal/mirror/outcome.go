package mirror

import "mirror/internal/cache"

// Outcome says how a lookup went.
type Outcome uint8

// The outcomes. Hit: the content was here, also when its tag was checked first. Miss: it was fetched for this request.
// Join: it was being fetched already. Stale: it was here, and its tag could not be checked.
const (
	Hit Outcome = iota
	Miss
	Join
	Stale
	outcomes
)

// String returns "hit", "miss", "join" or "stale".
func (o Outcome) String() string { return [outcomes]string{"hit", "miss", "join", "stale"}[o] }

// Source says where the bytes of an answer came from.
type Source uint8

// The sources.
const (
	Memory Source = iota
	Disk
	Peer
	Upstream
	sources
)

// String returns "memory", "disk", "peer" or "upstream".
func (s Source) String() string { return [sources]string{"memory", "disk", "peer", "upstream"}[s] }

// sourceOf translates the tier of an open blob.
func sourceOf(t cache.Tier) Source {
	switch t {
	case cache.TierMemory:
		return Memory
	case cache.TierDisk:
		return Disk
	}
	return Upstream
}
