package upstream

import (
	"cmp"
	"slices"
	"time"
)

// standing is what the place of an endpoint in the order depends on. What comes first in the struct counts first, and the
// order of the configuration last.
type standing struct {
	endpoint *endpoint
	down     bool // its breaker is not closed
	breaks   int  // how often it has let this download down
	slow     bool // it is much slower to its headers than another
}

// order returns the endpoints in the order in which a call asks them: the first of the configuration that is well, then
// what is slow, then what is down. How those are doing is found out in the background, so that no client is the one who
// waits for it.
func (r *Registry) order(c call) []*endpoint {
	if len(r.endpoints) == 1 {
		return r.endpoints
	}
	all := make([]standing, len(r.endpoints))
	for i, e := range r.endpoints {
		all[i] = standing{e, e.breaker.down(), c.trail.breaksOf(e), e.pace.compare(r.fastestBut(e))}
	}
	slices.SortStableFunc(all, standing.compare)
	ordered := make([]*endpoint, len(all))
	for i := range all {
		ordered[i] = all[i].endpoint
	}
	r.lookAfter(all, c)
	return ordered
}

func (s standing) compare(other standing) int {
	return cmp.Or(
		compareBool(s.down, other.down),
		cmp.Compare(s.breaks, other.breaks),
		compareBool(s.slow, other.slow),
	)
}

// compareBool puts what does not hold first.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// fastestBut returns the shortest time to headers of the other endpoints that are up, or zero when it is not known.
func (r *Registry) fastestBut(e *endpoint) time.Duration {
	var fastest time.Duration
	for _, other := range r.endpoints {
		if other == e || other.breaker.down() {
			continue
		}
		if took, ok := other.pace.known(); ok && (fastest == 0 || took < fastest) {
			fastest = max(took, 1)
		}
	}
	return fastest
}

// lookAfter starts the probes that are due: of what is down and may be back, of what is slow and may be so no longer, and,
// when the one in use is slow by itself, of those that may be faster. The latter two are a comfort, and end when a rate
// limit is running out.
func (r *Registry) lookAfter(all []standing, c call) {
	if all[0].down {
		return // the call itself finds out
	}
	now, suspicious := time.Now(), all[0].endpoint.pace.suspicious()
	for _, s := range all[1:] {
		_, known := s.endpoint.pace.known()
		switch {
		case s.down && s.endpoint.breaker.ready(),
			!s.down && (s.slow || suspicious && !known) && s.endpoint.probing.due(now) && r.Budget().ForBackground():
			r.startProbe(s.endpoint, c)
		}
	}
}
