package peer

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Name returns the name of this node in the cluster.
func (g *Group) Name() string { return g.name }

// Addr returns where this node gossips, once Start has returned.
func (g *Group) Addr() netip.AddrPort { return g.address }

// View returns what this node knows of the cluster now. It costs a few nanoseconds while nobody was found dead.
func (g *Group) View() View {
	now := g.roster.known.Load()
	v := View{ranking: now.ranking, self: now.self}
	if dead := *g.dead.Load(); len(dead) > 0 {
		v.except = dead.names(now.ranking, time.Now())
	}
	if g.settings.Disowned {
		v.except = NamesOf(append(slices.Collect(maps.Keys(v.except)), g.name)...)
	}
	return v
}

// Dead passes a member over for some seconds, in views taken from now on: this node has found that it refuses connections
// or is silent. A member that restarts is back at once. Members that others have found dead are for View.Without.
func (g *Group) Dead(name string) {
	now := g.roster.known.Load()
	m := now.ranking.Member(name)
	if m == nil || m == now.self {
		return
	}
	g.metrics.dead.Inc()
	until := time.Now().Add(g.settings.DeadFor)
	g.deadLock.Lock()
	defer g.deadLock.Unlock()
	list := g.dead.Load().with(obituary{name: name, start: m.Start, until: until}, time.Now())
	g.dead.Store(&list)
}

// Alive takes a member back that was found dead, because it has just answered.
func (g *Group) Alive(name string) {
	g.deadLock.Lock()
	defer g.deadLock.Unlock()
	list := g.dead.Load().without(name, time.Now())
	g.dead.Store(&list)
}

// SetRefusal tells the cluster that this node must not own anything, or withdraws the reason. The first is told at once,
// the second when it has lasted half a minute.
func (g *Group) SetRefusal(why Refusal, is bool) { g.standing.refuse(why, is) }

// SetRoom tells the cluster the size class of this node's cache, when it has lasted half a minute. What
// was set before Start is told from the first moment.
func (g *Group) SetRoom(room Room) { g.standing.have(room) }
