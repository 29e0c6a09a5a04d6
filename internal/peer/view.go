package peer

import "time"

// View is what a node knows of its cluster at one moment. It is a small value that never changes; take a new one for each
// decision, and the same one for what belongs together. Every method may be called from any goroutine.
//
// Two nodes may have different views at the same time. What they agree about, whatever their views, is the order of any
// two members for a key (Higher).
type View struct {
	ranking *Ranking
	self    *Member
	except  Names // members that are passed over
}

// Self is the member that this node is.
func (v View) Self() *Member { return v.self }

// Members lists all members, this node included, sorted by name. The caller must not change them.
func (v View) Members() []*Member { return v.ranking.Members() }

// Member returns the member of that name, nil when there is none.
func (v View) Member(name string) *Member { return v.ranking.Member(name) }

// Alone tells whether there is no other member.
func (v View) Alone() bool { return len(v.ranking.members) < 2 }

// Owners counts the members that may own something, those included that are passed over now.
func (v View) Owners() int { return v.ranking.Owners() }

// MayOwn tells whether this node may own anything, as it sees the cluster.
func (v View) MayOwn() bool { return v.ranking.owners.has(v.self.Name) && !v.Passed(v.self.Name) }

// Owner returns the member that owns key. It is nil when nobody may: then the upstream is all that is left.
func (v View) Owner(key Key) *Member { return v.ranking.Owner(key, v.except) }

// ZoneOwner returns the member that owns key in the zone of this node, nil when nobody there may.
func (v View) ZoneOwner(key Key) *Member { return v.ranking.ZoneOwner(key, v.self.Zone, v.except) }

// Top fills dst with the first members for key, and returns the part that it filled. At most 8 are found.
func (v View) Top(key Key, dst []*Member) []*Member { return v.ranking.Top(key, dst, v.except) }

// Without returns the view in which these members are passed over too: those that the sender of a request has found dead,
// for as long as that request takes. What somebody else has found is no reason to pass them over in other requests: the
// link that is broken may be the sender's.
func (v View) Without(names ...string) View {
	if len(names) == 0 {
		return v
	}
	except := make(Names, len(v.except)+len(names))
	for name := range v.except {
		except[name] = struct{}{}
	}
	for _, name := range names {
		if name != v.self.Name && v.Member(name) != nil {
			except[name] = struct{}{}
		}
	}
	v.except = except
	return v
}

// Passed tells whether a member is passed over.
func (v View) Passed(name string) bool { return v.except.Has(name) }

// count returns how many members are in this node's zone, and how many elsewhere.
func (v View) count() (own, other int) {
	for _, m := range v.ranking.members {
		if m.Zone == v.self.Zone {
			own++
		}
	}
	return own, len(v.ranking.members) - own
}

// obituaries are members that were found dead, with the time until which that is believed. They never change: who has
// found another one makes a new list.
type obituaries []obituary

type obituary struct {
	name  string
	start uint64 // of the run that died: the next run of the same node is alive
	until time.Time
}

// with returns the list with one more.
func (o obituaries) with(one obituary, now time.Time) obituaries {
	return append(o.without(one.name, now), one)
}

// without returns the list without one, and without those that are over.
func (o obituaries) without(name string, now time.Time) obituaries {
	var list obituaries
	for _, other := range o {
		if other.name != name && now.Before(other.until) {
			list = append(list, other)
		}
	}
	return list
}

// names returns the set of those that are still believed and are members in the same run as then; nil when there is none.
func (o obituaries) names(r *Ranking, now time.Time) Names {
	var set Names
	for _, one := range o {
		if m := r.Member(one.name); m == nil || m.Start != one.start || !now.Before(one.until) {
			continue
		}
		if set == nil {
			set = Names{}
		}
		set[one.name] = struct{}{}
	}
	return set
}
