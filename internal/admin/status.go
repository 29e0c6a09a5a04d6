package admin

import (
	"net/http"
	"slices"

	"mirror/internal/mirror"
)

// status sums up what a mirror does. Its numbers are those of /metrics, so that the two never disagree.
func (a *api) status(m *mirror.Mirror, w http.ResponseWriter, r *http.Request) error {
	if _, err := readQuery(r.URL.RawQuery); err != nil {
		return err
	}
	numbers := gather(a.parts.Gatherer)
	respond(w, http.StatusOK, Status{
		Version: a.parts.Version, Started: a.parts.Started.UTC(),
		Cache: cacheStatus(numbers), Lookups: lookupStatus(numbers), Traffic: trafficStatus(numbers),
		Fills: fillStatus(m.Fills()), Upstreams: upstreamStatus(m.Upstreams(), numbers),
		Peers: peersStatus(m, numbers),
	})
	return nil
}

func cacheStatus(n numbers) CacheStatus {
	bytes, blobs := n.by("mirror_cache_bytes", "tier"), n.by("mirror_cache_blobs", "tier")
	tier := func(name string) TierStatus { return TierStatus{bytes[name], blobs[name]} }
	return CacheStatus{
		Limit:  n.sum("mirror_cache_limit_bytes"),
		Memory: tier("memory"), Disk: tier("disk"), Partial: tier("partial"),
	}
}

func lookupStatus(n numbers) LookupStatus {
	outcomes := n.by("mirror_lookups_total", "outcome")
	s := LookupStatus{Hit: outcomes["hit"], Miss: outcomes["miss"], Join: outcomes["join"], Stale: outcomes["stale"]}
	if all := s.Hit + s.Miss + s.Join + s.Stale; all > 0 {
		s.HitRatio = float64(all-s.Miss) / float64(all)
	}
	return s
}

func trafficStatus(n numbers) TrafficStatus {
	return traffic(n.sum("mirror_served_bytes_total"), n.sum("mirror_upstream_bytes_total"))
}

// fillStatus describes fills, those first that have the most readers.
func fillStatus(fills []mirror.Fill) []FillStatus {
	all := make([]FillStatus, len(fills))
	for i, f := range fills {
		all[i] = FillStatus{
			Digest: f.Digest, Received: f.Received, Readers: f.Readers, Connections: f.Fetches, Ahead: f.Ahead,
			Repositories: namesOf(f.Repositories),
		}
		if f.Size >= 0 {
			all[i].Size = &f.Size
		}
	}
	slices.SortFunc(all, func(a, b FillStatus) int {
		if a.Readers != b.Readers {
			return b.Readers - a.Readers
		}
		return a.Digest.Compare(b.Digest)
	})
	return all
}
