package peer

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// roster keeps the list of members. Its changes come from within memberlist, which holds its lock then and must not wait;
// they are noted, and one goroutine makes a new list from all that have come in the meantime. A rollout of a whole fleet
// is then a few lists, not thousands.
type roster struct {
	mu      sync.Mutex
	changes map[string]*Member // by name; nil for one that is gone. At most one for each member
	wake    chan struct{}      // holds one: there are changes

	members map[string]Member // only for keep
	known   atomic.Pointer[known]
}

// known is the newest list.
type known struct {
	ranking *Ranking
	self    *Member
}

// newRoster returns the list of a node that knows nobody else.
func newRoster(self Member) *roster {
	r := &roster{changes: map[string]*Member{}, wake: make(chan struct{}, 1), members: map[string]Member{self.Name: self}}
	r.rebuild(self.Name)
	return r
}

// note takes a change without waiting. A nil member is gone.
func (r *roster) note(name string, m *Member) {
	r.mu.Lock()
	r.changes[name] = m
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// keep makes new lists until ctx ends. self never leaves its own list.
func (r *roster) keep(ctx context.Context, self string) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		r.mu.Lock()
		changes := r.changes
		r.changes = map[string]*Member{}
		r.mu.Unlock()
		for name, m := range changes {
			if m != nil {
				r.members[name] = *m
			} else if name != self {
				delete(r.members, name)
			}
		}
		r.rebuild(self)
	}
}

func (r *roster) rebuild(self string) {
	ranking := NewRanking(slices.Collect(maps.Values(r.members)))
	r.known.Store(&known{ranking: ranking, self: ranking.Member(self)})
}
