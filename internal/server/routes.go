package server

import (
	"hash/maphash"
	"sync/atomic"
)

const (
	// seenRoutes is how many addresses of hits are kept read, and seenLength the most bytes of each.
	seenRoutes = 1 << 10
	seenLength = 1 << 10
)

// routeTable keeps the routes of hits. To read an address costs three allocations and a tenth of what a hit costs, and a hit is
// mostly one of many: the nodes of a cluster ask for the same things.
//
// A route says what an address means, which never changes while the process runs, and nothing of what is held.
type routeTable struct {
	seed  maphash.Seed
	slots [seenRoutes]atomic.Pointer[seenRoute]
}

type seenRoute struct {
	path, query, host string
	route             route
}

func newRouteTable() *routeTable { return &routeTable{seed: maphash.MakeSeed()} }

// find returns the route of an address, or nil when that is not kept.
func (t *routeTable) find(request *glance) *route {
	seen := t.slot(request).Load()
	if seen == nil || string(request.path) != seen.path || string(request.query) != seen.query || string(request.host) != seen.host {
		return nil
	}
	return &seen.route
}

// keep keeps the route of an address, in the place of another.
func (t *routeTable) keep(request *glance, r *route) {
	if len(request.path)+len(request.query)+len(request.host) <= seenLength {
		t.slot(request).Store(&seenRoute{string(request.path), string(request.query), string(request.host), *r})
	}
}

func (t *routeTable) slot(request *glance) *atomic.Pointer[seenRoute] {
	sum := maphash.Bytes(t.seed, request.path)*31 + maphash.Bytes(t.seed, request.query)*7 + maphash.Bytes(t.seed, request.host)
	return &t.slots[sum%seenRoutes]
}
